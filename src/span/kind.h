/* Kinds: how the collector reads an object, and how long it lives.  A span holds objects of one kind.
 *
 * The table only grows; an entry is constant once `kind_count` (release, acquire) covers it. */
#ifndef MIDDEN_SPAN_KIND_H
#define MIDDEN_SPAN_KIND_H

#include <stdbool.h>
#include <stdint.h>

#include "midden/midden.h"

enum scan_mode {
  SCAN_NONE,         /* no pointers */
  SCAN_CONSERVATIVE, /* every aligned word */
  SCAN_TYPED,        /* by the type in the slot's last word */
  SCAN_TRACE         /* by the kind's trace function */
};

struct kind {
  const char *name;
  midden_trace_fn *trace; /* SCAN_TRACE only */
  void *argument;         /* for trace; a root */
  enum scan_mode scan;
  bool zeroed;       /* objects are handed out cleared */
  bool root;         /* objects live until they are freed, and are roots */
  bool trace_beside; /* the trace function reads the object and nothing else that changes */
};

/* A slot of kind MIDDEN_TYPED ends in the address of its type; of an array, with TYPE_ARRAY_TAG set, before which stands
 * the number of elements. */
enum { TYPE_ARRAY_TAG = 1, TYPE_TRAILER_BYTES = 2 * sizeof(uintptr_t) };

/* Of a tiny object; two share a slot. */
enum { TINY_BYTES = 8 };

/* Kinds that only the library allocates.  To the program they are what kind_for_program says. */
enum {
  KIND_TINY = MIDDEN_KINDS_BUILT_IN, /* slots that tiny objects share */
  KIND_FIBER,                        /* trace function: gc/stacks.c */
  KIND_WEAK,                         /* weak references; see gc/cell.h */
  KIND_EPHEMERON,                    /* likewise */
  KIND_WEAK_TABLE,                   /* see api/weak_table.c */
  KINDS_OWN
};

/* Whether a kind is the library's own, of which the program allocates nothing by its number. */
static inline bool kind_is_own(unsigned kind) { return kind >= MIDDEN_KINDS_BUILT_IN && kind < KINDS_OWN; }

/* Whether objects of a kind are cells, of which the specials of others know. */
static inline bool kind_is_cell(unsigned kind) { return kind == KIND_WEAK || kind == KIND_EPHEMERON; }

extern struct kind kind_table[MIDDEN_KINDS_MAX];
extern unsigned kind_count; /* atomic */

/* Adds a kind: its number, or -ENOSPC.  The caller serializes. */
int kind_add(const struct kind *kind);

/* Whether a number names a kind. */
bool kind_exists(unsigned kind);

#endif
