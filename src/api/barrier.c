/* The write barrier's bulk forms. */
#include "midden/barrier.h"

#include "base/atomic.h"

void midden_copy_range(void *to, const void *from, size_t count) {
  midden_word *target = to;
  const midden_word *source = from;
  if ((uintptr_t)to <= (uintptr_t)from) {
    for (size_t i = 0; i < count; i++) midden_store(&target[i], atomic_load_relaxed(&source[i]));
  } else {
    for (size_t i = count; i-- > 0;) midden_store(&target[i], atomic_load_relaxed(&source[i]));
  }
}

void midden_clear_range(void *slots, size_t count) {
  midden_word *slot = slots;
  for (size_t i = 0; i < count; i++) midden_store(&slot[i], NULL);
}
