#include "gc/named_free.h"

#include <string.h>

#include "base/atomic.h"
#include "os/os.h"
#include "page/arena.h"
#include "span/mark_bits.h"

enum { WORD_BITS = 64, TABLE_BYTES = NAMED_FREE_BITS / 8 };

bool named_free_is_noted;

static NOT_A_ROOT uint64_t *table; /* NULL: it was never needed */

static size_t number_of(uintptr_t address) { return ((address - heap_arena.start) >> GRANULE_SHIFT) % NAMED_FREE_BITS; }

bool named_free_begin(void) {
  if (table != NULL) {
    memset(table, 0, TABLE_BYTES);
  } else {
    table = os_map(TABLE_BYTES);
  }
  atomic_store_relaxed(&named_free_is_noted, table != NULL);
  return table != NULL;
}

void named_free_end(void) { atomic_store_relaxed(&named_free_is_noted, false); }

void named_free_set(uintptr_t address) {
  size_t number = number_of(address);
  atomic_or_relaxed(&table[number / WORD_BITS], UINT64_C(1) << number % WORD_BITS);
}

bool named_free_has(uintptr_t address) {
  if (!atomic_load_relaxed(&named_free_is_noted)) return false;
  size_t number = number_of(address);
  return (atomic_load_relaxed(&table[number / WORD_BITS]) >> number % WORD_BITS & 1) != 0;
}
