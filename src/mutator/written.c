#include "mutator/written.h"

#include <errno.h>

#include "base/attr.h"
#include "base/bits.h"
#include "os/os_dirty.h"
#include "page/arena.h"
#include "span/page_info.h"

enum { RANGES = 128 };

static NOT_A_ROOT uintptr_t watched_end; /* of the arena, in this process; 0: nothing is watched */

/* With new descriptors nothing is watched. */
static int open_if_lost(void) {
  if (os_dirty_check() == 0) return 0;
  watched_end = 0;
  return os_dirty_open();
}

bool written_is_available(void) {
  int error = open_if_lost();
  return error != -ENOSYS && error != -EPERM;
}

/* All that the arena may become: it need not be accessible yet. */
static int watch(void) {
  int error = open_if_lost();
  if (error != 0 || watched_end == heap_arena.end) return error;
  error = os_dirty_watch((void *)heap_arena.start, heap_arena.end - heap_arena.start);
  if (error == 0) watched_end = heap_arena.end;
  return error;
}

bool written_is_watched(void) { return os_dirty_check() == 0 && watched_end == heap_arena.end; }

void written_forked(void) {
  os_dirty_forked();
  watched_end = 0;
}

/* ---- where the pointers are ---- */

static bool has_pointers(size_t page) {
  uint16_t info = atomic_load_relaxed(&heap_arena.page_info[page]);
  return info != 0 && page_info_scan(info) != SCAN_NONE;
}

static size_t used_pages(void) { return (atomic_load_acquire(&heap_arena.used) - heap_arena.start) >> PAGE_SHIFT; }

/* A run of pages is widened to the huge pages in which it begins and ends. */
static size_t run_start(size_t page, size_t least) {
  size_t chunk = page / CHUNK_PAGES;
  return arena_chunk_is_huge(&heap_arena, chunk) ? max_size(chunk * CHUNK_PAGES, least) : page;
}

static size_t run_end(size_t page, size_t most) {
  size_t chunk = (page - 1) / CHUNK_PAGES;
  return arena_chunk_is_huge(&heap_arena, chunk) ? min_size((chunk + 1) * CHUNK_PAGES, most) : page;
}

/* The next run of pages in [*page, end); false if there is none. */
static bool next_run(size_t *page, size_t end, struct os_range *run) {
  size_t from = *page;
  while (from < end && !has_pointers(from)) from++;
  if (from == end) return false;
  size_t to = from + 1;
  for (size_t wide = run_end(to, end); to < wide || (to < end && has_pointers(to)); wide = run_end(to, end))
    to = max_size(wide, to + 1);
  *run = (struct os_range){round_down(heap_arena.start + (run_start(from, *page) << PAGE_SHIFT), os_page_bytes()),
                           round_up(heap_arena.start + (to << PAGE_SHIFT), os_page_bytes())};
  *page = to;
  return true;
}

/* ---- protecting and reading ---- */

int written_protect(void) {
  int error = watch();
  size_t page = 0, end = used_pages();
  for (struct os_range run; error == 0 && next_run(&page, end, &run);)
    error = os_dirty_protect((void *)run.start, run.end - run.start);
  return error;
}

enum { PART_PAGES = 1 << (WRITTEN_PART_SHIFT - PAGE_SHIFT) };

size_t written_part_count(void) { return (used_pages() + PART_PAGES - 1) / PART_PAGES; }

static ptrdiff_t visit_run(struct os_range run, bool protect, written_visit_fn *visit, void *argument) {
  ptrdiff_t bytes = 0;
  while (run.start < run.end) {
    struct os_range written[RANGES];
    size_t count;
    int error = os_dirty_scan(&run, protect, written, RANGES, &count);
    if (error != 0) return error;
    for (size_t i = 0; i < count; i++) {
      visit(argument, written[i]);
      bytes += (ptrdiff_t)(written[i].end - written[i].start);
    }
  }
  return bytes;
}

ptrdiff_t written_visit(size_t part, bool protect, written_visit_fn *visit, void *argument) {
  size_t page = part * PART_PAGES, end = min_size(page + PART_PAGES, used_pages());
  ptrdiff_t all_bytes = 0;
  for (struct os_range run; next_run(&page, end, &run);) {
    ptrdiff_t bytes = visit_run(run, protect, visit, argument);
    if (bytes < 0) return bytes;
    all_bytes += bytes;
  }
  return all_bytes;
}
