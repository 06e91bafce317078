// Sums of elements without factors: what the codes `parity` and `tornado` consist of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace codes {

struct Step {
  uint32_t target;
  std::vector<uint32_t> sources;
};

// Makes targets, step by step, each the xor of its sources. Numbers below `elements.size()` are elements, `size` bytes each, and
// those from there on, `spare` of them, memory that is forgotten at the end. What is a target counts as zero until its first step.
void xorSteps(const std::vector<Step> &steps, const std::vector<uint8_t *> &elements, size_t size, size_t spare);

}  // namespace codes
