// yield-policy
//
// Tells, for each line `NOW_US SERVED RUNNING PROCESSORS` that comes, whether threads yield until the next: 0 or 1.
#include <stdio.h>

#include "placement.h"

int main() {
  YieldPolicy policy;
  long long now;
  unsigned long served;
  unsigned running, processors;
  while (scanf("%lld %lu %u %u", &now, &served, &running, &processors) == 4)
    printf("%d", policy.look({now, served, running, processors}));
  printf("\n");
  return 0;
}
