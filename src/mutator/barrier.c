#include "midden/barrier.h"

uint32_t midden_barrier_active;

void midden_barrier_record(const void *old, const void *value) {
  (void)old;
  (void)value;
}
