/* A span: a run of pages with one owner.
 *
 * States and the only legal transitions (span_set_state checks them):
 *
 *     DEAD    the structure describes no memory            -> FREE
 *     FREE    the pages wait in the page heap              -> IN_USE, STACK, DEAD (merged into a neighbour)
 *     IN_USE  the pages hold collected objects             -> FREE, only while no mark phase runs
 *     STACK   the pages are a stack of midden's, or wait   -> FREE, only while no mark phase runs, or if nothing was ever
 *             to be faulted in (pageheap_take_absent)         handed out (span_take_back)
 *
 * While marking, a span's state only ever leaves FREE: a marker that read a pointer may look up the span later and must
 * find what it found before.
 *
 * Sweep generation.  The heap's generation h grows by 2 at the end of each mark phase.
 *
 *     sweep_generation == h - 2    needs sweeping
 *     sweep_generation == h - 1    is being swept, by the one thread that made this step
 *     sweep_generation == h        swept, ready to use
 *
 * A span has generation h before it becomes IN_USE: who walks the pages may meet it before its owner has written
 * anything else of it, and must not take it for an old span that nobody has swept.
 *
 * Spans come from a fixed-size allocator that does not clear them: the generation of a freed structure stays readable. */
#ifndef MIDDEN_PAGE_SPAN_H
#define MIDDEN_PAGE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/list.h"

/* midden's page, of which spans are made; not the kernel's. */
enum { PAGE_SHIFT = 13 };
#define PAGE_BYTES ((size_t)1 << PAGE_SHIFT)

enum span_state { SPAN_DEAD, SPAN_FREE, SPAN_IN_USE, SPAN_STACK };

/* What sweeping and allocation look at lies in the first cache line. */
struct span {
  struct link link; /* DEAD: unused; FREE: a list of the page heap; IN_USE: a list of its central, or a cache's chain */
  uintptr_t start;  /* address of the first byte; atomic; written by span_set_range alone */
  size_t page_count; /* atomic; written by span_set_range alone */
  uint32_t state;    /* enum span_state, and above it the number of steps so far; atomic; by span_set_state alone */

  /* IN_USE: owned by the layers above. */
  uint32_t sweep_generation; /* atomic; see above */
  uint32_t free_index;       /* atomic; small slots: bytes from `start` that were all handed out since the last sweep */
  uint16_t slot_bytes_small; /* bytes of one slot; 0 for a large object */
  uint16_t slot_count;       /* 1 for a large object */
  uint16_t live_count;       /* marked slots as of the last sweep; written by the sweeper */
  uint8_t size_class;        /* atomic; 0 for a large object */
  uint8_t kind;              /* atomic; what the objects hold; see span/kind.h */
  bool in_cache;     /* a thread's cache allocates from it; written by who has it, or under its central's lock */
  bool has_specials; /* atomic; an object of it has, or had, a special, or is one of the collector's weak cells */
  bool needs_zero;   /* the pages may hold old data; FREE, too */
  uint8_t noted_in;  /* atomic; a large object: see cards_note_large (span/cards.h) */
  struct special_set *specials; /* atomic; NULL: none; under the span's stripe, see gc/special.h */

  /* FREE: owned by the page heap, under its lock. */
  size_t released_pages;    /* how many of the pages are not resident: given back to the system, or never touched */
  uint64_t unused_since_ns; /* when the pages became free */
  struct link age;          /* the list of free spans by time; see freeset.h */
  uintptr_t release_end;    /* no page at or above this address can be given back; a bound, not always the least one */
  struct span *tree_left, *tree_right, *tree_parent; /* tree of large free spans; see spantree.h */
  uint32_t tree_priority;
#ifdef MIDDEN_ASSERTS
  uint32_t swept_in; /* atomic; the generation in which the structure was last swept, whatever it described */
#endif
};

/* Inline in any case, as object_span. */
ALWAYS_INLINE size_t span_bytes(const struct span *span) { return span->page_count << PAGE_SHIFT; }
static inline uintptr_t span_end(const struct span *span) { return span->start + span_bytes(span); }

/* Bytes of one slot, large objects included. */
static inline size_t span_slot_bytes(const struct span *span) {
  return span->size_class != 0 ? span->slot_bytes_small : span_bytes(span);
}

/* h, the heap's sweep generation.  Written while the world is stopped; atomic. */
extern uint32_t span_generation;

static inline uint32_t span_generation_now(void) { return atomic_load_relaxed(&span_generation); }

/* True while a mark phase runs; the collector sets it, span_set_state checks against it.  Atomic. */
extern bool span_marking;

/* Writes what memory a DEAD or FREE structure describes.  Atomic, since arena_span_of may look at the structure by way
 * of a stale table entry; what it read is only believed when the state says IN_USE or STACK. */
void span_set_range(struct span *span, uintptr_t start, size_t page_count);

enum { SPAN_STATE_MASK = 3, SPAN_STATE_STEP = 4 };

enum span_state span_state(const struct span *span);

/* The state with the number of steps: the same word twice means that no step was made in between, where the same state
 * could be that of another life. */
static inline uint32_t span_state_word(const struct span *span) { return atomic_load_acquire(&span->state); }

/* The one writer of `state`: stops the process on a transition that the table above does not have. */
void span_set_state(struct span *span, enum span_state state);

/* STACK -> FREE at any time, for pages that nobody was given. */
void span_take_back(struct span *span);

const char *span_state_name(enum span_state state);

#endif
