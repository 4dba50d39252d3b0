/* Giving free pages back to the system.
 *
 * Work proceeds in slices: under the lock, the span that has been unused for longest loses a run of resident pages at
 * its high end; then the lock is dropped and the next slice starts from what is the oldest by then.  The system call is
 * made under the lock, which is what keeps the pages from being allocated meanwhile, and what bounds a slice.
 *
 * Where OS pages are larger than ours, a span may hold resident pages and yet no whole OS page that could go.  It
 * leaves the list of ages when that is noticed; merging brings it back. */
#include "base/bits.h"
#include "base/check.h"
#include "os/os.h"
#include "page/chunks.h"
#include "page/pageheap.h"
#include "page/residency.h"

#define SLICE_BYTES ((size_t)512 << 10)

/* Lowers the span's release_end past pages that cannot go; it becomes the span's start where none can. */
static void lower_release_end(const struct pageheap *heap, struct span *span) {
  size_t unit = heap->release_unit_bytes;
  uintptr_t low = round_up(span->start, unit), high = round_down(span_end(span), unit);
  uintptr_t end = min_size(round_up(span->release_end, unit), high);
  while (end > low && *residency_at(heap->arena, end - PAGE_BYTES) != PAGE_RESIDENT) end -= PAGE_BYTES;
  span->release_end = end > low ? end : span->start;
}

/* The highest run of pages that can go: units of which each holds a resident page, at most `budget_bytes` of them. */
static struct os_range highest_run(const struct pageheap *heap, const struct span *span, size_t budget_bytes) {
  size_t unit = heap->release_unit_bytes;
  uintptr_t low = round_up(span->start, unit);
  uintptr_t end = round_up(span->release_end, unit);
  uintptr_t start = span->release_end;
  while (start > low && end - start < budget_bytes && *residency_at(heap->arena, start - PAGE_BYTES) == PAGE_RESIDENT) {
    start -= PAGE_BYTES;
  }
  return (struct os_range){round_down(start, unit), end};
}

/* Marks the resident pages of a run RELEASED, chunk by chunk; returns how many they were.  Pages that were never touched
 * stay FRESH. */
static size_t mark_released(struct pageheap *heap, struct os_range run) {
  size_t total = 0;
  for (uintptr_t start = run.start; start < run.end;) {
    uintptr_t end =
        min_size(run.end, round_down(start - heap->arena->start, CHUNK_BYTES) + CHUNK_BYTES + heap->arena->start);
    uint8_t *residency = residency_at(heap->arena, start);
    size_t count = 0;
    for (size_t i = 0; i < (end - start) >> PAGE_SHIFT; i++) {
      if (residency[i] != PAGE_RESIDENT) continue;
      residency[i] = PAGE_RELEASED;
      count++;
    }
    chunks_note_released(heap, start, count);
    total += count;
    start = end;
  }
  return total;
}

size_t pageheap_note_released_locked(struct pageheap *heap, struct span *span, struct os_range run) {
  size_t count = mark_released(heap, run);
  freeset_remove(&heap->free, span);
  span->released_pages += count;
  if (run.end >= span->release_end && run.start < span->release_end) span->release_end = run.start;
  span->needs_zero = span_resident_pages(span) > 0;
  if (!span->needs_zero) freeset_age_remove(&heap->free, span);
  freeset_insert(&heap->free, span);
  heap->stats.released_bytes += count << PAGE_SHIFT;
  heap->stats.released_total_bytes += count << PAGE_SHIFT;
  return count;
}

/* One slice of work, adding to *released_bytes.  False where there is no more to do. */
static bool release_slice_locked(struct pageheap *heap, size_t goal_bytes, uint64_t now_ns, uint64_t unused_ns,
                                 size_t *released_bytes) {
  struct span *span = freeset_age_first(&heap->free);
  if (span == NULL || now_ns < span->unused_since_ns || now_ns - span->unused_since_ns < unused_ns) return false;
  ASSERT(span_state(span) == SPAN_FREE);
  lower_release_end(heap, span);
  if (span->release_end == span->start) {
    freeset_age_remove(&heap->free, span);
    return true;
  }
  size_t budget_bytes = round_up(min_size(goal_bytes - *released_bytes, SLICE_BYTES), heap->release_unit_bytes);
  struct os_range run = highest_run(heap, span, budget_bytes);
  if (heap->hooks.release((void *)run.start, run.end - run.start) != 0) return false;
  *released_bytes += pageheap_note_released_locked(heap, span, run) << PAGE_SHIFT;
  return true;
}

size_t pageheap_release(struct pageheap *heap, size_t goal_bytes, uint64_t unused_ns) {
  uint64_t now_ns = heap->hooks.now_ns(); /* spans freed from here on are left alone, so that this ends */
  size_t released_bytes = 0;
  lock_acquire(&heap->lock);
  while (released_bytes < goal_bytes && release_slice_locked(heap, goal_bytes, now_ns, unused_ns, &released_bytes))
    lock_pass(&heap->lock);
  lock_release(&heap->lock);
  return released_bytes;
}

bool pageheap_chunk_is_full(struct pageheap *heap, size_t chunk) {
  lock_acquire(&heap->lock);
  bool full = chunk < arena_chunk_count(heap->arena) && heap->arena->chunks[chunk].in_use_pages == CHUNK_PAGES;
  lock_release(&heap->lock);
  return full;
}

/* Of units that are absent as a whole.  They hold zeros. */
void pageheap_release_again(struct pageheap *heap, size_t chunk) {
  size_t unit = heap->release_unit_bytes;
  lock_acquire(&heap->lock);
  uintptr_t start = heap->arena->start + (chunk << CHUNK_SHIFT), end = start + CHUNK_BYTES;
  const struct arena_chunk *counts = &heap->arena->chunks[chunk];
  bool all_resident = counts->in_use_pages + counts->idle_pages == CHUNK_PAGES;
  for (uintptr_t page = start, next; !all_resident && page < end; page = next) {
    bool is_absent = *residency_at(heap->arena, page) != PAGE_RESIDENT;
    for (next = page; next < end && (*residency_at(heap->arena, next) != PAGE_RESIDENT) == is_absent;)
      next += PAGE_BYTES;
    uintptr_t low = round_up(page, unit), high = round_down(next, unit);
    if (is_absent && low < high) heap->hooks.release((void *)low, high - low);
  }
  lock_release(&heap->lock);
}
