// Reed-Solomon: which combination of the elements at hand makes a wanted one, and making it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace codes {

constexpr size_t max_elements = 256;

// By what elements are combined: ISA-L, or AVX-512 with its multiplication by matrices over GF(2) (GFNI).
enum class Way { library, broad };

// The fastest that this processor, and its system, has.
Way bestWay();

struct Elements {
  std::vector<uint8_t *> at;
  size_t size = 0;  // of each
};

// One row of m factors for each element of `wanted`: what it is of those with the numbers `indexes`, m of them. Empty when one of
// these is given twice. ISA-L must be there.
std::vector<uint8_t> coefficients(size_t m, const std::vector<uint8_t> &indexes, const std::vector<uint8_t> &wanted);

// Each target becomes the sum of all sources, each times its factor; target r has the r-th row of `factors`.
void combine(const std::vector<uint8_t> &factors, const Elements &sources, const Elements &targets, Way way = bestWay());

}  // namespace codes
