/* Objects whose pointers are known: the collector reads these words and no others.
 *
 * A word that is no pointer cannot keep anything alive by looking like one, and a large array of numbers costs the
 * collector nothing.  Here every other word of a table is a number that looks just like a pointer. */
#include <assert.h>
#include <midden/midden.h>
#include <stdio.h>

struct entry {
  char *name;       /* word 0: a reference */
  uintptr_t number; /* word 1: not one, whatever its value */
};

static const uint64_t entry_pointers[] = {1 << 0};
static const struct midden_type entry_type = {
    .name = "entry", .size = sizeof(struct entry), .pointers = entry_pointers};

enum { ENTRIES = 1000, NAME_BYTES = 32 };

static struct entry *table; /* static data is a root */

static void fill(void) {
  table = midden_alloc_array(&entry_type, ENTRIES);
  assert(table != NULL);
  for (int i = 0; i < ENTRIES; i++) {
    char *name = midden_alloc_data(NAME_BYTES);
    assert(name != NULL);
    snprintf(name, NAME_BYTES, "entry %d", i);
    table[i].name = name;
    table[i].number = (uintptr_t)midden_alloc_data(NAME_BYTES); /* as good as dropped */
  }
}

int main(void) {
  fill();
  midden_collect();
  int numbers_alive = 0;
  for (int i = 0; i < ENTRIES; i++) {
    assert(midden_owns(table[i].name));
    numbers_alive += midden_owns((void *)table[i].number);
  }
  /* A few may be kept by what is left on the stack. */
  assert(numbers_alive < ENTRIES / 10);
  printf("%s to %s are there; of the objects that only a number names, %d of %d\n", table[0].name,
         table[ENTRIES - 1].name, numbers_alive, ENTRIES);
  return 0;
}
