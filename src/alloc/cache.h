/* A thread's cache: for each kind and size class a window of free slots, from which allocation is a bump and a compare.
 *
 *     window  [next, limit): slots whose allocation bits are set and whose memory is zero if the kind is zeroed
 *     span    where the next window comes from; one of a chain (central.h): those before it are used up, those after it taken
 *             ahead; all of them are given back together
 *     freed   slots that the program freed and that may be used again before the next sweep; their bits are clear
 *
 * Who touches what.  The owning thread alone changes `next` and `limit`, at any time, also while a signal that stops it
 * may arrive between the two halves of an allocation.  So a stopped thread's window is never changed: the collector
 * marks its slots (cache_flush_stw), and the window stays good across the collection, while its spans go back to the
 * central lists.  The chain and `freed` are touched inside critical sections only, hence also by the collector while the
 * world is stopped.
 *
 * Freed slots.  A slot below its span's free_index in a swept span is handed out again by nobody until the span is
 * next swept, so the thread that freed it may keep it.  Any other freed slot just waits for a claim or a sweep to find
 * its clear bit.  Which of the two it is must be asked before the bit is cleared: as soon as it is clear, the thread that
 * allocates from the span may claim the slot and move free_index past it.
 *
 * Counting.  The fast path counts nothing: `claimed` counts slots when a window is opened, and who wants to know how many
 * were allocated takes off what is left in the windows.  `freed` counts what midden_free freed.  Both are written by the
 * owner alone.  A window and its count change together, while `version` is odd; a reader copies both between two looks at
 * the same even version (cache_read_allocated):
 *
 *     owner    version odd, relaxed; counts and window, release; version even, release
 *     reader   version, acquire; counts and windows, acquire; version again
 *
 * If the reader sees a store of the change, it sees the odd version or a later one at its second look.  `next` is the one
 * word that moves at any other time, and each of its values is a true one.
 *
 * An object may be freed by another thread than the one that allocated it.  The program hands it over by its own means,
 * then the free is counted with a release: who reads all the frees first, and then the windows, sees no object freed
 * that it does not see allocated. */
#ifndef MIDDEN_ALLOC_CACHE_H
#define MIDDEN_ALLOC_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloc/sample.h"
#include "base/attr.h"
#include "base/bits.h"
#include "page/span.h"
#include "span/kind.h"
#include "span/object.h"
#include "span/size_class.h"
#include "span/tally.h"

/* Kinds up to this one have their bins inside the cache; the others' are allocated when first used. */
enum { CACHE_INLINE_KINDS = MIDDEN_RAW + 1 };

struct cache_bin {
  char *next, *limit;
  struct span *span;
  void *freed; /* linked through the first word */
  uint32_t freed_count;
  uint32_t chains; /* taken one after another; 0 after a cycle */
};

/* The bins of a kind.  Most are empty, and whoever looks through many threads' caches does not touch those: a bin that may hold
 * anything has its bit in `used`, set before its slots are counted; atomic. */
enum { CACHE_USED_WORDS = (SIZE_CLASS_COUNT + 63) / 64 };

struct cache_row {
  uint64_t used[CACHE_USED_WORDS];
  struct cache_bin bins[SIZE_CLASS_COUNT];
};

struct cache {
  struct cache_row rows[CACHE_INLINE_KINDS];
  struct cache_row *more_rows[MIDDEN_KINDS_MAX]; /* by kind, from CACHE_INLINE_KINDS on; NULL until used */
  char *tiny_next, *tiny_limit;                  /* rest of a slot that several tiny objects share; a root */
  uintptr_t clearing;                            /* a large object whose memory is being cleared, or 0; its owner */
  size_t unaccounted_bytes; /* handed out and not yet in account_live_bytes; atomic, written by the owner */
  uint64_t version;         /* atomic; odd while a window and its count change; 0: there was none yet */
  uint32_t black_cycle;     /* atomic; see cache_is_black; written in critical sections, or while the thread is held */
  uint64_t tiny_slots;      /* claimed for tiny objects, ever; counted in `claimed` too */
  struct tally claimed;     /* slots that came into windows, and large objects, ever */
  struct tally freed;       /* by midden_free, ever */
  uint32_t has_freed;       /* atomic; set before the first is counted */
  struct sampler sampler;   /* last: allocation does not look at it */
};

/* What the caches of threads that ended had allocated and freed.  Under the lock of the list of mutators. */
struct cache_retired {
  struct tally allocated, freed;
  uint64_t tiny_allocations;
};
extern struct cache_retired cache_retired;

/* Not 0 while threads allocate black objects whose stack was scanned (docs/barrier-mode.md) or that the end of a dirty-page cycle
 * has stopped: the number of the cycle.  Changes while no thread is in a critical section. */
extern uint32_t cache_black_cycle;

/* Whether what is claimed for the cache is marked; critical sections.  (A store with barrier asks too: outside of critical
 * sections a "yes" may be out of date only where the cycle has ended.) */
static inline bool cache_is_black(const struct cache *cache) {
  uint32_t cycle = atomic_load_relaxed(&cache_black_cycle);
  return UNLIKELY(cycle != 0) && atomic_load_relaxed(&cache->black_cycle) == cycle;
}

/* Slots are zeroed and handed out so many bytes at a time: enough of them for the cost to be shared, and a small part of the
 * first-level cache.  Half as many while a cycle is beside the program: who assists, does so by the window. */
enum { CACHE_WINDOW_SLOTS = 16, CACHE_WINDOW_BYTES_LEAST = 4096, CACHE_WINDOW_BYTES_MOST = 8192 };

/* The most bytes of a window, or one slot. */
static inline size_t cache_window_bytes(size_t slot_bytes) {
  size_t bytes = max_size(CACHE_WINDOW_SLOTS * slot_bytes, CACHE_WINDOW_BYTES_LEAST);
  return max_size(min_size(bytes, CACHE_WINDOW_BYTES_MOST) >> atomic_load_relaxed(&span_marking), slot_bytes);
}

/* The calling thread's cache.  A thread that has none yet sees an empty one, whose windows send it to the slow path. */
extern THREAD_LOCAL struct cache *cache_self;
extern struct cache cache_none;

/* Debug: each window holds a single slot, so that every allocation comes by.  Constant after start, and true where
 * objects are guarded. */
extern bool cache_single_slots;

/* NULL until used. */
static inline struct cache_row *cache_row_of(struct cache *cache, unsigned kind) {
  if (LIKELY(kind < CACHE_INLINE_KINDS)) return &cache->rows[kind];
  return atomic_load_acquire(&cache->more_rows[kind]);
}

static inline struct cache_bin *cache_bin_of(struct cache *cache, unsigned kind, unsigned size_class) {
  if (LIKELY(kind < CACHE_INLINE_KINDS)) return &cache->rows[kind].bins[size_class];
  struct cache_row *row = cache->more_rows[kind];
  return row == NULL ? NULL : &row->bins[size_class];
}

/* The owner may be emptying the window; it fills it in critical sections only. */
static inline bool cache_bin_is_empty(const struct cache_bin *bin) {
  bool has_window = atomic_load_relaxed(&bin->next) != atomic_load_relaxed(&bin->limit);
  return bin->span == NULL && bin->freed == NULL && !has_window;
}

/* The fast path: a slot from the window, or NULL. */
ALWAYS_INLINE void *cache_bump(struct cache_bin *bin, size_t slot_bytes) {
  char *slot = bin->next;
  if (UNLIKELY(slot_bytes > (size_t)(bin->limit - slot))) return NULL;
  atomic_store_plain(&bin->next, slot + slot_bytes); /* see cache_read_allocated */
  return slot;
}

/* Calls `function` for each bin that may hold anything. */
typedef void cache_bin_fn(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class,
                          void *argument);
void cache_each_bin(struct cache *cache, cache_bin_fn *function, void *argument);

/* Whether a slot waits in the cache's window for an object to come: its allocation bit is set, but it is no object. */
bool cache_window_holds(struct cache *cache, const struct span *span, uintptr_t slot);

/* Finds the living object that holds `address`, as object_find, this cache's windows and guard zones left out. */
bool cache_find_object(struct cache *cache, const void *address, struct object *object);

/* Critical sections only, from here on. */

/* Fills the window of a kind and class.  SAMPLED: it holds one slot, whose object belongs into the heap profile. */
enum cache_filled { CACHE_NO_MEMORY, CACHE_FILLED, CACHE_SAMPLED };
enum cache_filled cache_refill(struct cache *cache, unsigned kind, unsigned size_class);

/* Whether a large object of `bytes`, just allocated, belongs into the heap profile. */
bool cache_samples_large(struct cache *cache, size_t bytes);

/* Where a profile has begun, gives all windows back: their slots were never considered. */
void cache_follow_profile(struct cache *cache);

/* Frees an object of a small class in a swept span.  False, and nothing done, if its bit was clear already. */
bool cache_free_slot(struct cache *cache, struct span *span, uintptr_t slot);

/* Count a large object. */
void cache_count_large(struct cache *cache, unsigned kind, size_t bytes);
void cache_count_large_freed(struct cache *cache, unsigned kind, size_t bytes);

/* Adds what is not yet accounted to account_live_bytes. */
void cache_account(struct cache *cache);

/* The world is stopped and marking is about to begin: gives the spans back to the central lists, forgets the freed slots and
 * marks the windows' slots, so that they stay the cache's. */
void cache_flush_stw(struct cache *cache);

/* The thread's stack is about to be scanned while threads run, or, in dirty-page mode, the thread is stopped: marks the windows'
 * slots, and from now on the cache is black.  Slots that some marker had marked, and counted, before are taken off `marked`:
 * they are no objects. */
void cache_blacken(struct cache *cache, struct tally *marked);

/* No thread is in a critical section and the marks are about to become the allocation bits: gives the spans back to the
 * central lists and forgets the freed slots.  The windows' slots are marked. */
void cache_give_spans(struct cache *cache);

/* The thread ends: gives back everything, windows included. */
void cache_retire(struct cache *cache);

/* From here on no critical section, but the lock of the list of mutators. */

/* Adds what the cache had counted to cache_retired, as it leaves the list. */
void cache_fold_counts_locked(struct cache *cache);

/* Adds what was allocated from the cache, ever, and freed by its thread.  The owner may run; see "Counting" for the order
 * in which to call them.  Tiny objects: a thread that is about to hand one out may count for two. */
void cache_read_allocated(struct cache *cache, struct tally *allocated, uint64_t *tiny_allocations);
void cache_read_freed(const struct cache *cache, struct tally *freed);

#endif
