/* Persistent memory for metadata: carved from chunks of the system's, zeroed, never freed, counted by purpose. */
#ifndef MIDDEN_META_PERSIST_H
#define MIDDEN_META_PERSIST_H

#include <stddef.h>
#include <stdint.h>

enum persist_purpose {
  PERSIST_SPAN,    /* span structures */
  PERSIST_TABLE,   /* tables beside the arena: spans, page information, residency */
  PERSIST_BITS,    /* the two bit tables beside the arena */
  PERSIST_MUTATOR, /* mutators and their caches */
  PERSIST_MARK,    /* mark stacks and work buffers */
  PERSIST_SPECIAL, /* finalizers, weak links, the heap profile */
  PERSIST_OTHER,
  PERSIST_PURPOSE_COUNT
};

/* `alignment` is a power of two, at most an OS page.  NULL where the system has no memory. */
void *persist_alloc(size_t bytes, size_t alignment, enum persist_purpose purpose);

/* Faults in what the next `bytes` will be carved from, as far as it is mapped. */
void persist_populate(size_t bytes);

/* Charges memory that was obtained in another way; `bytes` may be negative. */
void persist_charge(enum persist_purpose purpose, ptrdiff_t bytes);

/* Bytes held for a purpose. */
size_t persist_bytes(enum persist_purpose purpose);

/* Bytes held for all purposes. */
size_t persist_total_bytes(void);

#endif
