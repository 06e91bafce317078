// Loads ISA-L when the addon starts.
#include "library.h"

#include <dlfcn.h>
#include <type_traits>

namespace codes {

// Sanitizers refuse to load anything in this way; their programs have no other gf_mul.
#ifdef __SANITIZE_ADDRESS__
constexpr int own_symbols_first = 0;
#else
constexpr int own_symbols_first = RTLD_DEEPBIND;
#endif

static const IsaL *load() {
  void *library = dlopen("libisal.so.2", RTLD_NOW | RTLD_LOCAL | own_symbols_first);
  if (!library) return nullptr;
  static IsaL loaded;
  auto find = [library](auto &function, const char *name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    return function != nullptr;
  };
  bool found = find(loaded.gf_mul, "gf_mul") && find(loaded.gf_inv, "gf_inv") &&
               find(loaded.gf_invert_matrix, "gf_invert_matrix") && find(loaded.ec_init_tables, "ec_init_tables") &&
               find(loaded.ec_encode_data, "ec_encode_data") && find(loaded.ec_encode_data_base, "ec_encode_data_base");
  return found ? &loaded : nullptr;
}

const IsaL *isal() {
  static const IsaL *const loaded = load();
  return loaded;
}

}  // namespace codes
