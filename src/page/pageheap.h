/* The page heap: spans of whole pages, allocated by best fit and merged with free neighbours when they come back.
 *
 * Free spans of 1 to 127 pages wait in one list per page count, larger ones in a tree ordered by page count, then
 * address (freeset.h).  What an allocation leaves over is trimmed off and stays free.
 *
 * Which span an allocation of n pages takes.  Touching a page for the first time, or again after it was given back,
 * costs more than everything else here, so the heap remembers for each free page whether memory stands behind it
 * (enum page_residency), and looks at two candidates: R, the smallest sufficient span that is wholly resident, and A,
 * the smallest sufficient span with at least one page that is not; the lowest address among equals of 128 and more
 * pages, the one freed last among smaller ones.  An allocation takes the low end of its span.  Where both exist:
 *   - R, if A is not smaller than R;
 *   - A, if the first n pages of A are resident: it is the better fit and costs nothing;
 *   - A, if it is a tight fit (at most n/8 pages larger) and R has at least 16 times as many pages as A would have to
 *     fault in: that little keeps a large resident span whole;
 *   - R otherwise.
 *
 * Age.  Merged spans take the time of the part with the most resident pages (the one just freed, among equals): a large
 * span does not grow young because a page beside it comes and goes.
 *
 * Cost.  With n free spans, an allocation or a free takes O(log n) steps in the trees and O(1) in the lists.  Besides
 * that, an allocation writes table entries for each of its pages, and looks at the residency of no more pages than it
 * takes and skips to be aligned; of none where its span is wholly resident.  A free looks at none, however large the spans
 * that it merges.
 *
 * The limit.  Where limit_bytes is set, an allocation that would pass it by touching absent pages first releases idle
 * ones that it cannot use, as many as it is too much, and then, if that is not enough, tells hooks.press.  It goes on in
 * any case.
 *
 * Invariants (pageheap_verify):
 *   no two neighbouring spans are FREE;
 *   the table names a free span at its first and last page, any other span at each of its pages;
 *   in_use + stack + idle == bytes of the arena in use, and released + fresh <= idle;
 *   a chunk counts its pages in use and its idle resident ones;
 *   a free span's released_pages counts its pages that are not RESIDENT, and needs_zero says whether others are left.
 *
 * Every function takes the heap's lock unless its name ends in _locked. */
#ifndef MIDDEN_PAGE_PAGEHEAP_H
#define MIDDEN_PAGE_PAGEHEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"
#include "meta/fixalloc.h"
#include "page/arena.h"
#include "page/freeset.h"
#include "page/span.h"

/* What the page heap needs from above or from the system; tests give their own. */
struct pageheap_hooks {
  uint64_t (*now_ns)(void);
  /* Gives whole OS pages back to the system; 0 or -errno.  Called with the heap's lock held. */
  int (*release)(void *start, size_t bytes);
  /* Asked, without the lock, before an allocation of `pages` touches pages that are not resident or makes the arena grow:
   * may sweep and free spans.  NULL for nothing. */
  void (*reclaim)(size_t pages);
  /* Memory that is held beside the pages, which counts for limit_bytes too; NULL for none. */
  size_t (*metadata_bytes)(void);
  /* Told, without the lock, that an allocation passes limit_bytes though nothing idle is left to release. */
  void (*press)(void);
  /* Told, without the lock, that fewer than low_bytes of idle pages have memory behind them.  NULL for nothing. */
  void (*low)(void);
  /* Gives mark bits back to the system, whole OS pages, all zero; 0 or -errno.  The lock is held.  NULL: they stay. */
  int (*release_tables)(void *start, size_t bytes);
};

struct pageheap_stats {
  size_t in_use_bytes;   /* spans IN_USE */
  size_t stack_bytes;    /* spans STACK */
  size_t idle_bytes;     /* spans FREE */
  size_t released_bytes; /* part of idle that was given back to the system */
  size_t fresh_bytes;    /* part of idle that was never touched */
  size_t system_bytes;   /* the arena up to its frontier */
  size_t free_spans;
  size_t in_use_spans, stack_spans;
  size_t grow_count;             /* times that the arena grew */
  uint64_t released_total_bytes; /* given back to the system, ever, pages only */
  size_t tables_released_bytes;  /* mark bits that are given back now */
  uint64_t freed_ns;             /* when a page became free last */
};

struct pageheap {
  struct lock lock;
  struct arena *arena;
  struct pageheap_hooks hooks;
  struct fixalloc spans;
  struct freeset free;         /* under lock */
  struct pageheap_stats stats; /* under lock; free_spans is filled in by pageheap_read_stats */
  size_t grow_bytes;           /* the least by which the arena grows; 1 MiB unless set after init */
  size_t release_unit_bytes;   /* pages go back in units of this: the OS page, or ours if larger; constant after init */
  size_t limit_bytes;          /* atomic; soft: what is held (pageheap_held_bytes) should stay below; SIZE_MAX: none */
  size_t low_bytes;            /* atomic; see hooks.low; 0: never */
  uint64_t limit_release_ns;   /* atomic; time that allocations have spent to release memory for the limit */
  uint64_t residency_reads;    /* under lock; pages whose residency allocations have looked up so far; tests bound it */
};

/* The heap's pages. */
extern struct pageheap heap_pages;

void pageheap_init(struct pageheap *heap, struct arena *arena, const struct pageheap_hooks *hooks);

/* A span of exactly `pages` pages in `state` (IN_USE or STACK), its page table entries written, its upper-layer fields
 * cleared, its sweep_generation the heap's.  `may_grow` false: only from what is free.  NULL where there is no memory (or pages
 * is 0 or absurd).  The pages' contents are zero where needs_zero is false.
 *
 * Where that would touch pages that are not resident, hooks.reclaim is asked first.  The arena grows by an eighth of it
 * within 64 MiB, at least by grow_bytes, or else by just what is missing. */
struct span *pageheap_alloc(struct pageheap *heap, size_t pages, enum span_state state, bool may_grow);

/* As pageheap_alloc for several spans IN_USE of `pages` pages, at most `most`, which may grow: one, if it can be had, and more as
 * far as they are free and resident.  Returns how many. */
size_t pageheap_alloc_many(struct pageheap *heap, size_t pages, struct span **spans, size_t most);

/* As pageheap_alloc, the first byte aligned to `alignment` bytes (a power of two).  Looks for a span that is large
 * enough wherever it starts, and trims it at both ends. */
struct span *pageheap_alloc_aligned(struct pageheap *heap, size_t pages, size_t alignment, enum span_state state,
                                    bool may_grow);

/* Makes sure that a free span of `pages` pages exists, without touching it.  0 or -ENOMEM. */
int pageheap_reserve(struct pageheap *heap, size_t pages);

/* Takes a span back; it must be IN_USE or STACK and on no list, the page information of its pages cleared.  The
 * structure is the heap's afterwards.  Its pages count as written to. */
void pageheap_free(struct pageheap *heap, struct span *span);

/* The same for several at once, which costs less where they are neighbours and in the order of their addresses. */
void pageheap_free_many(struct pageheap *heap, struct span *const *spans, size_t count);

/* The same for a span whose memory the caller has given back to the system, all of it. */
void pageheap_free_released(struct pageheap *heap, struct span *span);

/* The same for a span STACK of which nobody was given anything: at any time, also while marking. */
void pageheap_free_unused(struct pageheap *heap, struct span *span);

/* For who faults memory in before it is needed: takes a chunk of free pages of which not all are resident, growing the arena
 * if need be.  Meanwhile the span is STACK, and counts as that; pageheap_free_unused gives it back, with memory behind all of
 * its pages.  NULL where there is none, or the limit has no room for it. */
struct span *pageheap_take_absent(struct pageheap *heap);

/* For the same: commits the tables for what the arena will grow by next, as far as the limit has room for that.  Returns how many
 * bytes of the arena they are for, from *frontier; arena_populate_tables is next, without the lock.  Otherwise whoever is first
 * in need of an entry waits for the memory behind it, and with him all who need the page heap. */
size_t pageheap_commit_tables(struct pageheap *heap, uintptr_t *frontier);

/* Gives free pages back to the system, spans unused for longest first, until `goal_bytes` are released by this call or
 * nothing is left that has been unused for `unused_ns`; a span's high end goes first, since allocations take the low
 * one.  Whole OS pages only.  The lock is held for slices of at most 512 KiB at a time.  Returns the bytes released,
 * less than an OS page above the goal; stops early where the system refuses. */
size_t pageheap_release(struct pageheap *heap, size_t goal_bytes, uint64_t unused_ns);

/* Releasing by chunks (pageheap_scavenge.c), for who has time to choose.  A chunk that is a huge page goes only while at
 * most CHUNK_SPARSE_PAGES of it are in use, and its idle pages go together; elsewhere any idle pages may go. */
enum { CHUNK_SPARSE_PAGES = CHUNK_PAGES / 4 };

struct pageheap_scavenged {
  size_t released_bytes;
  bool whole_huge_page; /* it was a wholly free huge page */
  uint64_t next_ns; /* when what is too young now will be old enough, counted from then: its time; UINT64_MAX: none */
  int error;        /* the system refused: 0 or -errno */
};

/* Releases idle pages of one chunk, at most `most_bytes`: of those in which nothing became free after `freed_by_ns`
 * wholly free chunks first, then whatever has been unused for longest, the highest among equals.  A huge page with more
 * than most_bytes idle is left alone.  Nothing released: there was no such chunk. */
struct pageheap_scavenged pageheap_scavenge(struct pageheap *heap, size_t most_bytes, uint64_t freed_by_ns);

/* Releases the idle pages of `chunk` whose spans have been unused since `unused_by_ns` or longer.  next_ns is the
 * earliest time of a span of it that was too young. */
struct pageheap_scavenged pageheap_scavenge_old(struct pageheap *heap, size_t chunk, uint64_t unused_by_ns);

/* The number of chunks that pageheap_scavenge_old can be asked about. */
size_t pageheap_chunk_count(struct pageheap *heap);

/* Whether each page of a chunk is in use or STACK.  And after something gave a whole huge page to one that was, while the program
 * ran: what came behind pages that count as released goes back. */
bool pageheap_chunk_is_full(struct pageheap *heap, size_t chunk);
void pageheap_release_again(struct pageheap *heap, size_t chunk);

/* Memory that stands behind spans in use, stacks and idle pages, and all metadata: what limit_bytes limits. */
size_t pageheap_held_bytes(struct pageheap *heap);

void pageheap_set_limit(struct pageheap *heap, size_t limit_bytes);

void pageheap_read_stats(struct pageheap *heap, struct pageheap_stats *stats);

/* Idle bytes that memory stands behind. */
static inline size_t pageheap_stats_idle_resident(const struct pageheap_stats *stats) {
  return stats->idle_bytes - stats->released_bytes - stats->fresh_bytes;
}

/* Walks everything and stops the process on a broken invariant. */
void pageheap_verify(struct pageheap *heap);

#endif
