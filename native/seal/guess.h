// Whether it is worth to try zstd on a block: what is encrypted or compressed already costs it more time than its encryption.
#pragma once

#include "seal.h"

namespace seal {

// False when zstd would find nothing, as far as can be told by looking where it would look; true in doubt.
bool mayCompress(Bytes plain);

}  // namespace seal
