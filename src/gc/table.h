/* A hash table from addresses to records, by open addressing with linear probing.
 *
 * Addresses are not 0.  Removal moves later entries up, so there are no tombstones and a lookup costs what the load
 * factor (at most one half) says.  Memory comes from the system; a table shrinks by table_release alone. */
#ifndef MIDDEN_GC_TABLE_H
#define MIDDEN_GC_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table_entry {
  uintptr_t key; /* 0: free */
  void *value;
};

struct table {
  struct table_entry *entries;
  size_t count, capacity; /* capacity is 0 or a power of two */
};

/* NULL where the key is not in the table. */
void *table_get(const struct table *table, uintptr_t key);

/* The key must not be in the table.  0 or -ENOMEM. */
int table_add(struct table *table, uintptr_t key, void *value);

/* Replaces the value of a key that is in the table. */
void table_replace(struct table *table, uintptr_t key, void *value);

/* Returns the value, NULL where the key was not there. */
void *table_remove(struct table *table, uintptr_t key);

/* Gives back the memory of a table without entries. */
void table_release(struct table *table);

/* Visits every entry: `keep` returns false for those to be removed. */
void table_filter(struct table *table, int (*keep)(uintptr_t key, void *value, void *argument), void *argument);

#endif
