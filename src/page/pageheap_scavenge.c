/* Giving memory back chunk by chunk, without breaking huge pages that are worth having.
 *
 * To give back a part of a huge page splits it: the rest loses what it was for, and the kernel keeps the part until it
 * is short of memory itself.  So a wholly free huge page goes first, in one piece; one of which little is in use goes
 * in part; a dense one stays as it is.
 *
 * What is chosen comes from the table of chunks, one look at each: a heap of a gigabyte has 512.  The choice and the
 * system call are made under the lock, which keeps the pages from being allocated meanwhile; a slice is one chunk.
 *
 * Finding a free span.  The span table is exact at a free span's first and last page only.  An entry in between is
 * stale, but believable where the structure that it names is not DEAD and its range holds the page: ranges of living
 * structures do not overlap, and the lock keeps them as they are. */
#include "base/bits.h"
#include "base/check.h"
#include "page/chunks.h"
#include "page/pageheap.h"
#include "page/residency.h"

static bool may_go(const struct arena *arena, size_t chunk) {
  const struct arena_chunk *facts = &arena->chunks[chunk];
  if (facts->idle_pages == 0 || facts->stuck) return false;
  return facts->in_use_pages <= CHUNK_SPARSE_PAGES || !arena_chunk_is_huge(arena, chunk);
}

static struct os_range range_of_chunk(const struct arena *arena, size_t chunk) {
  uintptr_t start = arena->start + (chunk << CHUNK_SHIFT);
  return (struct os_range){start, min_size(start + CHUNK_BYTES, arena->used)};
}

static bool holds(const struct span *span, uintptr_t page) {
  return span != NULL && span_state(span) != SPAN_DEAD && page - span->start < span_bytes(span);
}

/* The span that holds a page.  Pages of which the table knows nothing lie in the middle of a free span, whose first page
 * is found below; a chunk without pages in use is stepped over at once. */
static struct span *find_span(const struct arena *arena, uintptr_t page) {
  for (;;) {
    ASSERT(page >= arena->start);
    struct span *span = atomic_load_relaxed(&arena->spans[arena_page_of(arena, page)]);
    if (holds(span, page)) return span;
    uintptr_t chunk_start = arena->start + round_down(page - arena->start, CHUNK_BYTES);
    bool step_over = page != chunk_start && arena_chunk_of(arena, page)->in_use_pages == 0;
    page = step_over ? chunk_start : page - PAGE_BYTES;
  }
}

/* The high end of a part of a free span that holds at most `most_bytes` of resident pages; empty where it has none. */
static struct os_range high_end(const struct pageheap *heap, struct os_range part, size_t most_bytes) {
  size_t unit = heap->release_unit_bytes;
  uintptr_t low = round_up(part.start, unit), high = round_down(part.end, unit);
  size_t most_pages = most_bytes >> PAGE_SHIFT, count = 0;
  uintptr_t start = high, lowest = high; /* lowest: of the resident pages */
  while (start > low && count < most_pages) {
    start -= PAGE_BYTES;
    if (*residency_at(heap->arena, start) != PAGE_RESIDENT) continue;
    lowest = start;
    count++;
  }
  return (struct os_range){round_down(lowest, unit), high};
}

/* Gives back resident pages of a part of a free span, the highest first. */
static void release_part(struct pageheap *heap, struct span *span, struct os_range part, size_t most_bytes,
                         struct pageheap_scavenged *result) {
  struct os_range run = high_end(heap, part, most_bytes);
  if (run.start >= run.end) return;
  result->error = heap->hooks.release((void *)run.start, run.end - run.start);
  if (result->error != 0) return;
  result->released_bytes += pageheap_note_released_locked(heap, span, run) << PAGE_SHIFT;
}

/* Gives back at most `most_bytes` of the idle pages of a chunk whose spans have been unused since `unused_by_ns`. */
static void release_chunk(struct pageheap *heap, size_t chunk, size_t most_bytes, uint64_t unused_by_ns,
                          struct pageheap_scavenged *result) {
  struct os_range range = range_of_chunk(heap->arena, chunk);
  uintptr_t end = range.end;
  while (end > range.start && result->error == 0 && result->released_bytes < most_bytes) {
    struct span *span = find_span(heap->arena, end - PAGE_BYTES);
    struct os_range part = {max_size(span->start, range.start), end};
    end = part.start;
    if (span_state(span) != SPAN_FREE || span_resident_pages(span) == 0) continue;
    if (span->unused_since_ns <= unused_by_ns) {
      release_part(heap, span, part, most_bytes - result->released_bytes, result);
    } else if (span->unused_since_ns < result->next_ns) {
      result->next_ns = span->unused_since_ns;
    }
  }
}

/* Whether `a` goes before `b`, which lies below. */
static bool goes_first(const struct arena_chunk *a, const struct arena_chunk *b) {
  bool a_is_free = a->in_use_pages == 0, b_is_free = b->in_use_pages == 0;
  if (a_is_free != b_is_free) return a_is_free;
  return a->freed_ns <= b->freed_ns;
}

/* The chunk that goes next, or SIZE_MAX; *next_ns is the earliest time of one that is too young. */
static size_t choose_chunk(const struct pageheap *heap, size_t most_bytes, uint64_t freed_by_ns, uint64_t *next_ns) {
  const struct arena *arena = heap->arena;
  size_t best = SIZE_MAX, count = arena_chunk_count(arena);
  for (size_t i = 0; i < count; i++) {
    const struct arena_chunk *chunk = &arena->chunks[i];
    if (!may_go(arena, i)) continue;
    if (arena_chunk_is_huge(arena, i) && (size_t)chunk->idle_pages << PAGE_SHIFT > most_bytes) continue;
    if (chunk->freed_ns > freed_by_ns) {
      if (chunk->freed_ns < *next_ns) *next_ns = chunk->freed_ns;
    } else if (best == SIZE_MAX || goes_first(chunk, &arena->chunks[best])) {
      best = i;
    }
  }
  return best;
}

struct pageheap_scavenged pageheap_scavenge(struct pageheap *heap, size_t most_bytes, uint64_t freed_by_ns) {
  struct pageheap_scavenged result = {.next_ns = UINT64_MAX};
  if (most_bytes < PAGE_BYTES) return result;
  lock_acquire(&heap->lock);
  size_t chunk = choose_chunk(heap, most_bytes, freed_by_ns, &result.next_ns);
  if (chunk != SIZE_MAX) {
    bool is_whole = heap->arena->chunks[chunk].in_use_pages == 0 && arena_chunk_is_huge(heap->arena, chunk);
    release_chunk(heap, chunk, most_bytes, UINT64_MAX, &result);
    heap->arena->chunks[chunk].stuck = result.released_bytes == 0 && result.error == 0;
    result.whole_huge_page = is_whole && result.released_bytes > 0;
  }
  lock_release(&heap->lock);
  return result;
}

struct pageheap_scavenged pageheap_scavenge_old(struct pageheap *heap, size_t chunk, uint64_t unused_by_ns) {
  struct pageheap_scavenged result = {.next_ns = UINT64_MAX};
  lock_acquire(&heap->lock);
  if (chunk < arena_chunk_count(heap->arena) && may_go(heap->arena, chunk)) {
    bool is_whole = heap->arena->chunks[chunk].in_use_pages == 0 && arena_chunk_is_huge(heap->arena, chunk);
    release_chunk(heap, chunk, SIZE_MAX, unused_by_ns, &result);
    result.whole_huge_page = is_whole && result.released_bytes > 0;
  }
  lock_release(&heap->lock);
  return result;
}

size_t pageheap_chunk_count(struct pageheap *heap) {
  lock_acquire(&heap->lock);
  size_t count = arena_chunk_count(heap->arena);
  lock_release(&heap->lock);
  return count;
}
