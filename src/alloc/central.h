/* Central lists: for each kind and size class, the spans that no thread's cache holds.
 *
 * Four lists: partial (a slot may be free) and full, each once for swept and once for unswept spans.  Which of the two
 * is which follows from the sweep generation, which grows by 2 at the end of each mark phase: what was swept is unswept
 * then, without being touched.
 *
 * A span is claimed for sweeping, from a list or by its address, under its central's lock: the claimer takes it off its
 * list and steps its sweep_generation from h - 2 to h - 1.  So one thread sweeps it, exactly once a generation.  That
 * thread then puts it on a swept list, keeps it for its cache, or frees it.
 *
 * A span in a cache is on no list.  When the world stops the caches are flushed (cache_flush_stw), so that each span in use is on
 * a list while marking and after. */
#ifndef MIDDEN_ALLOC_CENTRAL_H
#define MIDDEN_ALLOC_CENTRAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/lock.h"
#include "page/span.h"
#include "span/kind.h"
#include "span/size_class.h"

struct central {
  struct lock lock;
  struct list partial[2]; /* a slot may be free; the swept and the unswept ones, see central_swept_side; under lock */
  struct list full[2];    /* none is; likewise */
  uint32_t searches;      /* for a swept span, ever; under lock */
  /* Of the generation `counted_in`, under lock: spans that caches took, fresh ones too; those that they took in the generation before;
   * and empty ones that were kept for them. */
  uint32_t counted_in, taken, taken_before, kept;
} CACHE_ALIGNED;

/* Index of the swept lists; the unswept ones have the other. */
static inline unsigned central_swept_side(void) { return span_generation_now() / 2 % 2; }
static inline unsigned central_unswept_side(void) { return central_swept_side() ^ 1; }

/* The lists of a kind and class; class 0 keeps the large objects of the kind.  NULL if there is no memory for the kind's
 * lists. */
struct central *central_of(unsigned kind, unsigned size_class);

/* The same, NULL where no span of that kind was ever allocated. */
struct central *central_if_exists(unsigned kind, unsigned size_class);

/* A cache has its spans in chains, linked by `link`, that it goes through from the first to the last.  They are swept, on no list,
 * and marked as in a cache. */
static inline struct span *central_chain_next(const struct span *span) {
  return span->link.next == NULL ? NULL : CONTAINER_OF(span->link.next, struct span, link);
}

/* Puts a span in front of the first of a chain, or NULL, and is the first then. */
struct span *central_chain(struct span *span, struct span *first);

/* Takes a chain back from a cache, whichever of its spans is named. */
void central_give(struct central *central, struct span *any);

/* Takes a chain back that is used up, unless that is NULL, and gives another of at most `most` spans with free slots.  Sweeps some
 * unswept spans to find any.  NULL where none was found: then fresh ones are called for. */
struct span *central_exchange(struct central *central, struct span *used_up, unsigned most);

/* Lists a swept span that holds one large object. */
void central_add_large(struct span *span);

/* Sweeps a span if it is not, or waits until another thread has: for whoever is about to look at its bits. */
void central_ensure_swept(struct span *span);

/* Spans are claimed and swept some at a time: a lock is taken once for all of one central. */
enum { CENTRAL_MANY = 16 };

/* Claims those spans for sweeping that are unswept; returns how many, which are in front then.  The span table named them in this
 * critical section, and they were in use then: one that was free before may be as many generations behind. */
size_t central_claim_many(struct span **spans, size_t count);

/* Claims at most `most` of the first unswept spans of this central; returns how many there were. */
size_t central_claim_first(struct central *central, struct span **spans, size_t most);

/* Sweeps at most CENTRAL_MANY claimed spans, then lists them, or frees those that hold nothing; with `keeps_wanted` it lists of
 * these, too, as many as caches took in the last generation: the program allocates, and to give pages back and make a span of them
 * anew costs more than to sweep one.  Returns the pages freed.  The caller counts the spans' pages in central_swept_pages. */
size_t central_sweep_many(struct span *const *spans, size_t count, bool keeps_wanted);

/* Takes a swept large span off its list, for midden_free. */
void central_remove_large(struct span *span);

/* Who sweeps; see gc/sweep.h. */
enum sweeper {
  SWEEPER_COLLECTOR,
  SWEEPER_ALLOCATION,
  SWEEPER_FREE,
  SWEEPER_RECLAIM,
  SWEEPER_BACKGROUND,
  SWEEPER_DEBT,
  SWEEPER_NEXT_CYCLE,
  SWEEPER_COUNT
};

/* How many pages each has swept, and how many pages were freed by sweeping, ever; atomic.  A critical section that sweeps
 * counts before it ends. */
extern size_t central_swept_pages[SWEEPER_COUNT], central_freed_pages;

#endif
