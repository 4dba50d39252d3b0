/* A hash table from addresses to records, by open addressing with linear probing.
 *
 * Addresses are not 0.  Removal moves later entries up, so there are no tombstones and a lookup costs what the load
 * factor (at most one half) says.  Memory comes from the system, and goes back as entries go.
 *
 * No call takes long, since tables are changed under a lock in critical sections, for which others wait.  A table whose array
 * gets too small, or much too large, has a second one, and each change that follows takes some entries along from the old array to
 * it, then gives some of the old array's memory back:
 *
 *     start, moved    the old array is walked from `start` on, a free place, once around.  The first `moved` places of that walk
 *                     are empty.  The place before the next one is free: whole runs of entries are moved, so that each entry which
 *                     is still there is found from its home on
 *     whole           a key whose home in the old array was passed is in the new array, or in none; another one that was there
 *                     before is in the old array, and one that was added since in the new one
 *     order           homes of both arrays are in the same order.  So entries move to places that follow each other, as they did
 *
 * A table that grows is done with the old array long before it is to grow again (STEP in table.c), and one with an old array
 * does not begin to shrink. */
#ifndef MIDDEN_GC_TABLE_H
#define MIDDEN_GC_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_entry {
  uintptr_t key; /* 0: free */
  void *value;
};

struct table_array {
  struct table_entry *entries;
  size_t capacity; /* 0 or a power of two */
};

struct table {
  struct table_array now, old; /* old: of capacity 0 if there is none */
  size_t count;                /* in both */
  size_t start, moved;         /* of the old array; see above */
  size_t returned_bytes;       /* of its memory, from its beginning on; when all of it was moved */
};

/* NULL where the key is not in the table. */
void *table_get(const struct table *table, uintptr_t key);

/* The key must not be in the table.  0 or -ENOMEM. */
int table_add(struct table *table, uintptr_t key, void *value);

/* Replaces the value of a key that is in the table. */
void table_replace(struct table *table, uintptr_t key, void *value);

/* Returns the value, NULL where the key was not there. */
void *table_remove(struct table *table, uintptr_t key);

/* Takes out up to `most` entries, and leaves their keys.  Looks at a part of the table at most, and may return 0 where there are
 * more; called until the table is empty it finds all, if nothing is added meanwhile.  `place` is its own, 0 at first. */
size_t table_take(struct table *table, size_t *place, uintptr_t *keys, size_t most);

/* Gives back some memory of a table without entries; false when there is none left. */
bool table_release_some(struct table *table);

/* Drops all entries and gives back all memory, at once. */
void table_clear(struct table *table);

/* The bytes of both arrays. */
size_t table_bytes(const struct table *table);

#endif
