/* The arena: one reserved range of addresses in which all pages of the heap lie, and the tables beside it.
 *
 * The range is reserved at once and committed from its start upward; `used` is the frontier.  Beside it grow tables with
 * a fixed number of bytes per page or chunk (spans, page information, mark bits, residency, chunks): each is reserved for
 * the whole arena and committed before `used` moves, so that whoever reads `used` (acquire) may index every table up to it.
 * They may be committed further than that, ahead of the next growth (arena_commit_tables_locked).
 *
 * `used` only grows; it is written under the page heap's lock with a release store. */
#ifndef MIDDEN_PAGE_ARENA_H
#define MIDDEN_PAGE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "page/span.h"

/* Tables of bits: the two sides that trade roles, and one of slots that were born black (span/sticky.h). */
enum { ARENA_SIDES = 2, ARENA_BORN = ARENA_SIDES, ARENA_BIT_TABLES };

/* The tables.  The last two are for generations in barrier mode. */
enum arena_table_index {
  ARENA_SPANS,
  ARENA_PAGE_INFO,
  ARENA_RESIDENCY,
  ARENA_CHUNKS,
  ARENA_BITS,
  ARENA_BORN_BITS = ARENA_BITS + ARENA_BORN,
  ARENA_FIRST_OPTIONAL = ARENA_BORN_BITS,
  ARENA_CARDS,
  ARENA_TABLES
};

enum { MARK_BITS_PAGE_BYTES = 64, CARDS_PAGE_BYTES = 16 };

/* A chunk: as much of the arena as one huge page of the kernel's covers, where those have the usual size.  What is known
 * of it tells which memory can go back without breaking a huge page that is worth having. */
enum { CHUNK_SHIFT = 21, CHUNK_PAGES = 1 << (CHUNK_SHIFT - PAGE_SHIFT) };
#define CHUNK_BYTES ((size_t)1 << CHUNK_SHIFT)

struct arena_chunk {
  uint64_t freed_ns;     /* when a page of it became free last; 0 for never */
  uint16_t in_use_pages; /* pages of spans IN_USE or STACK; atomic to read without the lock */
  uint16_t idle_pages;   /* pages of free spans that are RESIDENT */
  uint16_t root_spans;   /* atomic; that begin in it and hold root objects */
  uint16_t cell_spans;   /* atomic; likewise, weak references and ephemerons */
  bool new_roots;        /* atomic; slots for root objects were claimed in it since the cycle began */
  bool stuck;            /* no whole OS page of what is idle could go when that was tried last */
  bool tables_released;  /* its mark bits were given back and not touched since; see chunks.c */
  bool emptied;          /* atomic; the last of its memory was given back since arena_take_emptied */
};

/* Whether memory stands behind a free page.  Pages of other spans count as RESIDENT. */
enum page_residency {
  PAGE_FRESH,    /* never touched: reads as zero */
  PAGE_RELEASED, /* given back to the system and not touched since: reads as zero */
  PAGE_RESIDENT  /* may hold old data */
};

struct arena_table {
  char *base;             /* reserved; entries below committed_bytes may be touched */
  size_t entry_bytes;     /* bytes of one entry */
  unsigned entry_shift;   /* an entry is for so much of the arena, as a power of two: a page or a chunk */
  size_t committed_bytes; /* atomic; grows under the page heap's lock */
};

struct arena {
  uintptr_t start;                         /* constant after init, a multiple of 4 MiB */
  uintptr_t used;                          /* atomic; first address not yet handed to the page heap */
  uintptr_t end;                           /* constant after init */
  struct span **spans;                     /* by page; for a free span only its first and last page are exact */
  uint16_t *page_info;                     /* by page; 0 where no objects are; see span/page_info.h */
  uint64_t *mark_bits[ARENA_BIT_TABLES];   /* MARK_BITS_PAGE_BYTES a page each; see span/mark_bits.h */
  uint8_t *cards;                          /* CARDS_PAGE_BYTES a page, or NULL; see span/cards.h */
  uint8_t *residency;                      /* by page, enum page_residency; under the page heap's lock */
  struct arena_chunk *chunks;              /* by chunk; under the page heap's lock, but for what is atomic */
  struct arena_table tables[ARENA_TABLES]; /* those above; a base of NULL: there is none */
  unsigned bit_tables;                     /* from ARENA_BITS on */
  uintptr_t committed; /* first address not yet committed, at least `used`; under the page heap's lock */
  bool huge_pages;     /* advise huge pages once the heap is large; set after init, where they have the usual size */
  /* Whether the heap's own pages are left small all the same (tables are not): asked once, when the heap becomes large, under the page
   * heap's lock.  Set after init; NULL: they are not. */
  bool (*splits_are_dear)(void);
  bool small_heap;    /* its answer was yes */
  bool fake;          /* tests: the pages themselves are never touched */
  size_t limit_bytes; /* atomic; the arena does not grow past this many bytes; SIZE_MAX for none */
};

/* The heap's arena. */
extern struct arena heap_arena;

/* Reserves `bytes` of address space for pages and the tables that go with it, halving it until the system agrees and,
 * under RLIMIT_AS, until half of what may still be mapped is left to the program.
 * -ENOMEM where not even 64 MiB are to be had. */
int arena_init(struct arena *arena, size_t bytes);

/* Tests: tables are real, the pages are addresses from `start` that nobody touches. */
int arena_init_fake(struct arena *arena, uintptr_t start, size_t bytes);

void arena_destroy(struct arena *arena); /* tests */

/* Commits `bytes` (a multiple of the page size) at the frontier and the tables for them, then moves `used`.  Returns
 * their address, or 0 where the arena is full, limit_bytes would be passed or the system refuses.  Page heap's lock. */
uintptr_t arena_grow_locked(struct arena *arena, size_t bytes);

/* Commits the tables for `bytes` beyond the frontier, which stays where it is; a negative errno where not all could be.  Page
 * heap's lock. */
int arena_commit_tables_locked(struct arena *arena, size_t bytes);

/* Adds born_bits and cards, before the arena first grows; false, and there are none, where the system refuses. */
bool arena_add_young_tables(struct arena *arena);

/* Faults in the tables for `bytes` from `start`, as far as they are committed, but for the mark bits.  Any thread, no lock: it
 * changes nothing in them. */
void arena_populate_tables(const struct arena *arena, uintptr_t start, size_t bytes);

/* Asks that a span's pages not be backed by huge ones, for memory that is touched here and there; or that they be treated
 * like the rest again. */
void arena_advise_sparse(const struct arena *arena, uintptr_t start, size_t bytes, bool sparse);

static inline bool arena_contains(const struct arena *arena, uintptr_t address) {
  return address - arena->start < atomic_load_acquire(&arena->used) - arena->start;
}

static inline size_t arena_page_of(const struct arena *arena, uintptr_t address) {
  return (address - arena->start) >> PAGE_SHIFT;
}

static inline struct arena_chunk *arena_chunk_of(const struct arena *arena, uintptr_t address) {
  return &arena->chunks[(address - arena->start) >> CHUNK_SHIFT];
}

/* Chunks of which some page is in the arena. */
static inline size_t arena_chunk_count(const struct arena *arena) {
  return (atomic_load_acquire(&arena->used) - arena->start + CHUNK_BYTES - 1) >> CHUNK_SHIFT;
}

/* The size of the kernel's huge pages, which is a chunk's; 0 where there are none to be had, or of another size. */
size_t arena_huge_page_bytes(void);

/* Whether a chunk was advised to be one huge page. */
bool arena_chunk_is_huge(const struct arena *arena, size_t chunk);

/* Whether a chunk has lost all of its memory since the last call: what stands behind it now, if anything does, came later. */
bool arena_take_emptied(struct arena *arena, size_t chunk);

/* What the bits of a chunk take, in all tables of them. */
static inline size_t arena_chunk_bits_bytes(const struct arena *arena) {
  return arena->bit_tables * CHUNK_PAGES * MARK_BITS_PAGE_BYTES;
}

/* The chunks whose mark bits are given back together with those of `chunk`: [*first, *end), which may reach past the
 * arena's frontier.  What is advised to be huge pages goes in whole ones. */
void arena_mark_bits_unit(const struct arena *arena, size_t chunk, size_t *first, size_t *end);

/* The span that holds an address if that span is IN_USE or STACK; NULL for every other address whatsoever. */
struct span *arena_span_of(const struct arena *arena, uintptr_t address);

/* The world stopped: the first span IN_USE from *address on, where a span begins; moves *address behind it.  NULL at the arena's
 * end. */
const struct span *arena_next_in_use_stw(const struct arena *arena, uintptr_t *address);

#endif
