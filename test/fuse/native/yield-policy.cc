// yield-policy
//
// For each line `SERVED RUNNING PROCESSORS` that comes there is a look, when the policy wants it: SERVED requests in every
// `lookUs` since the one before. Tells of each when it was, in microseconds, and whether threads yield until the next.
#include <stdio.h>

#include "placement.h"

int main() {
  YieldPolicy policy;
  int64_t now = 0;
  unsigned long served;
  unsigned running, processors;
  while (scanf("%lu %u %u", &served, &running, &processors) == 3) {
    const int64_t wait = policy.untilNextUs();
    now += wait;
    const bool yields = policy.look({now, served * static_cast<uint64_t>(wait) / YieldPolicy::lookUs, running, processors});
    printf("%lld %d\n", static_cast<long long>(now), yields);
  }
  return 0;
}
