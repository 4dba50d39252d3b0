#include "span/kind.h"

#include <errno.h>

#include "base/atomic.h"

struct kind kind_table[MIDDEN_KINDS_MAX] = {
    [MIDDEN_DATA] = {.name = "data", .scan = SCAN_NONE, .zeroed = true},
    [MIDDEN_CONSERVATIVE] = {.name = "conservative", .scan = SCAN_CONSERVATIVE, .zeroed = true},
    [MIDDEN_TYPED] = {.name = "typed", .scan = SCAN_TYPED, .zeroed = true},
    [MIDDEN_RAW] = {.name = "raw", .scan = SCAN_NONE},
    [MIDDEN_ROOT] = {.name = "root", .scan = SCAN_CONSERVATIVE, .zeroed = true, .root = true},
    [MIDDEN_ROOT_DATA] = {.name = "root data", .scan = SCAN_NONE, .root = true},
    [KIND_FIBER] = {.name = "fiber", .scan = SCAN_TRACE, .zeroed = true},
    [KIND_TINY] = {.name = "data (tiny)", .scan = SCAN_NONE, .zeroed = true},
    [KIND_WEAK] = {.name = "weak reference", .scan = SCAN_NONE, .zeroed = true},
    [KIND_EPHEMERON] = {.name = "ephemeron", .scan = SCAN_TRACE, .zeroed = true}, /* trace: set by cell_init */
    [KIND_WEAK_TABLE] = {.name = "weak table", .scan = SCAN_CONSERVATIVE, .zeroed = true},
};
unsigned kind_count = KINDS_OWN;

bool kind_exists(unsigned kind) { return kind < atomic_load_acquire(&kind_count); }

int kind_add(const struct kind *kind) {
  unsigned number = kind_count;
  if (number == MIDDEN_KINDS_MAX) return -ENOSPC;
  kind_table[number] = *kind;
  atomic_store_release(&kind_count, number + 1);
  return (int)number;
}
