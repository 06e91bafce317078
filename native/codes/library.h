// ISA-L, the kept library of Reed-Solomon: its arithmetic in GF(2^8) makes every coefficient, and its loops combine elements where
// the processor has nothing faster (combine.h).
#pragma once

#include <isa-l/erasure_code.h>

namespace codes {

// The functions of it in use.
struct IsaL {
  decltype(&::gf_mul) gf_mul;
  decltype(&::gf_inv) gf_inv;
  decltype(&::gf_invert_matrix) gf_invert_matrix;
  decltype(&::ec_init_tables) ec_init_tables;
  decltype(&::ec_encode_data) ec_encode_data;
  decltype(&::ec_encode_data_base) ec_encode_data_base;  // for tests: one byte after the other
};

// Null where the library, or a function of it, is missing. Loaded with its own symbols first (node exports a gf_mul of OpenSSL's,
// which it would call otherwise), once, and never unloaded.
const IsaL *isal();

}  // namespace codes
