#include "mutator/written.h"

#include <errno.h>

#include "base/attr.h"
#include "base/bits.h"
#include "meta/persist.h"
#include "os/os_dirty.h"
#include "page/arena.h"
#include "page/pageheap.h"
#include "span/mark_bits.h"
#include "span/page_info.h"
#include "span/size_class.h"

enum { RANGES = 128 };

static NOT_A_ROOT uintptr_t watched_end; /* of the arena, in this process; 0: nothing is watched */

/* By chunk: what is known of its huge page. */
enum { CHUNK_IS_SPLIT = 1, CHUNK_WAS_WRITTEN = 2 };
static NOT_A_ROOT uint8_t *chunk_states; /* NULL: there was no memory for them */

/* With new descriptors nothing is watched. */
static int open_if_lost(void) {
  if (os_dirty_check() == 0) return 0;
  watched_end = 0;
  return os_dirty_open();
}

/* Where a fault takes so long, the processor does not walk the tables that the kernel changes: a copy of them is changed after it,
 * and to split a huge page takes milliseconds, in faults of which the system is not told. */
enum { DEAR_WRITE_NS = 4000, CHEAP = 1 };

static NOT_A_ROOT uint32_t write_ns; /* atomic; 0: not tried yet; CHEAP: less than a dear one, or not known */

uint32_t written_fault_ns(void) {
  uint32_t ns = atomic_load_relaxed(&write_ns);
  if (ns == 0) {
    int64_t tried_ns = os_dirty_write_ns();
    ns = tried_ns >= DEAR_WRITE_NS ? (uint32_t)min_size((size_t)tried_ns, UINT32_MAX) : CHEAP;
    atomic_store_relaxed(&write_ns, ns);
  }
  return ns == CHEAP ? 0 : ns;
}

static bool writes_are_dear(void) { return written_fault_ns() != 0; }

void written_init(void) {
  os_dirty_prepare();
  heap_arena.splits_are_dear = writes_are_dear;
}

bool written_is_available(void) {
  int error = open_if_lost();
  return error != -ENOSYS && error != -EPERM;
}

static void make_chunk_states(void) {
  if (chunk_states != NULL) return;
  size_t bytes = round_up((heap_arena.end - heap_arena.start) >> CHUNK_SHIFT, os_page_bytes());
  chunk_states = os_map(bytes);
  if (chunk_states != NULL) persist_charge(PERSIST_MUTATOR, (ptrdiff_t)bytes);
}

/* All that the arena may become: it need not be accessible yet. */
static int watch(void) {
  int error = open_if_lost();
  if (error != 0 || watched_end == heap_arena.end) return error;
  make_chunk_states();
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

static uint8_t chunk_state(size_t chunk) {
  return chunk_states != NULL ? chunk_states[chunk] : CHUNK_IS_SPLIT | CHUNK_WAS_WRITTEN;
}

/* Its huge page may be. */
static bool is_whole(size_t chunk) {
  return arena_chunk_is_huge(&heap_arena, chunk) && (chunk_state(chunk) & CHUNK_IS_SPLIT) == 0;
}

/* Pages are protected and read in runs, which are widened to the huge pages in which they begin and end.  Where one is split, that is
 * quick to read, and to be protected the free pages are left alone: the program is likely to allocate from them, and a fault for each
 * is spared. */
static bool is_wide(size_t chunk, bool protect) {
  return protect ? is_whole(chunk) : arena_chunk_is_huge(&heap_arena, chunk);
}

/* A gap of so many pages between two runs is taken along: a call that protects interrupts all processors on which the program
 * runs, which takes longer than the few faults. */
enum { GAP_PAGES = 2 };

static size_t first_with_pointers(size_t page, size_t end) {
  while (page < end && !has_pointers(page)) page++;
  return page;
}

/* Where a run ends that has reached a page, or leaves its chunk. */
static size_t run_end(size_t page, size_t end, bool protect) {
  size_t chunk = page / CHUNK_PAGES, most = min_size((chunk + 1) * CHUNK_PAGES, end);
  if (is_wide(chunk, protect)) return most;
  while (page < most && has_pointers(page)) page++;
  return page;
}

/* The next run of pages in [*page, end); false if there is none. */
static bool next_run(size_t *page, size_t end, bool protect, struct os_range *run) {
  size_t from = first_with_pointers(*page, end), to = from, most = end;
  if (from == end) return false;
  for (size_t next = from; next < most; next = first_with_pointers(to, most)) {
    to = run_end(next, end, protect);
    most = min_size(to + GAP_PAGES + 1, end);
  }
  size_t chunk = from / CHUNK_PAGES;
  if (is_wide(chunk, protect)) from = max_size(chunk * CHUNK_PAGES, *page);
  *run = (struct os_range){round_down(heap_arena.start + (from << PAGE_SHIFT), os_page_bytes()),
                           round_up(heap_arena.start + (to << PAGE_SHIFT), os_page_bytes())};
  *page = to;
  return true;
}

/* ---- huge pages ---- */

/* A range that was written.  A chunk is one whole range as long as its huge page is. */
static void note_written(struct os_range range) {
  if (chunk_states == NULL) return;
  for (uintptr_t at = range.start, next; at < range.end; at = next) {
    size_t chunk = (at - heap_arena.start) >> CHUNK_SHIFT;
    uintptr_t start = heap_arena.start + (chunk << CHUNK_SHIFT);
    next = min_size(range.end, start + CHUNK_BYTES);
    chunk_states[chunk] |= CHUNK_WAS_WRITTEN | (next - at != CHUNK_BYTES ? CHUNK_IS_SPLIT : 0);
  }
}

/* Memory comes behind each page of it, so each should have some.  The program runs: pages may be freed, and go, meanwhile. */
static bool join_chunk(size_t chunk) {
  void *start = (void *)(heap_arena.start + (chunk << CHUNK_SHIFT));
  if (!arena_chunk_is_huge(&heap_arena, chunk) || !pageheap_chunk_is_full(&heap_pages, chunk)) return false;
  os_dirty_join(start, CHUNK_BYTES); /* where that is refused, it would be again */
  pageheap_release_again(&heap_pages, chunk);
  chunk_states[chunk] &= (uint8_t)~CHUNK_IS_SPLIT;
  return true;
}

/* From where the last call has stopped: each has its turn.  How many. */
size_t written_join(size_t most) {
  static size_t next;
  size_t count = chunk_states == NULL ? 0 : used_pages() / CHUNK_PAGES, joined = 0;
  for (size_t i = 0; i < count && joined < most; i++) {
    next = next + 1 < count ? next + 1 : 0;
    if (chunk_states[next] == CHUNK_IS_SPLIT) joined += join_chunk(next);
  }
  return joined;
}

void written_begin(void) {
  if (chunk_states == NULL) return;
  size_t count = (used_pages() + CHUNK_PAGES - 1) / CHUNK_PAGES;
  for (size_t i = 0; i < count; i++) chunk_states[i] &= (uint8_t)~CHUNK_WAS_WRITTEN;
}

/* ---- protecting and reading ---- */

/* So many parts, where none is larger than that.  Fewer calls protect more at once, and each interrupts all processors. */
enum { PARTS = 8, PART_MOST_PAGES = (64 << 20) >> PAGE_SHIFT };

static size_t part_pages = PART_MOST_PAGES;

void written_divide(void) {
  size_t pages = round_up((used_pages() + PARTS - 1) / PARTS, CHUNK_PAGES);
  part_pages = max_size(min_size(pages, PART_MOST_PAGES), CHUNK_PAGES);
}

size_t written_part_count(void) { return (used_pages() + part_pages - 1) / part_pages; }

struct os_range written_part(size_t part) {
  uintptr_t start = heap_arena.start + ((part * part_pages) << PAGE_SHIFT);
  return (struct os_range){start, min_size(start + (part_pages << PAGE_SHIFT), heap_arena.used)};
}

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

struct noting {
  written_visit_fn *visit;
  void *argument;
};

static void note_and_visit(void *argument, struct os_range range) {
  const struct noting *noting = argument;
  note_written(range);
  noting->visit(noting->argument, range);
}

static ptrdiff_t visit_pages(size_t page, size_t end, bool protect, written_visit_fn *visit, void *argument) {
  struct noting noting = {visit, argument};
  ptrdiff_t all_bytes = 0;
  for (struct os_range run; next_run(&page, end, protect, &run);) {
    ptrdiff_t bytes = visit_run(run, protect, note_and_visit, &noting);
    if (bytes < 0) return bytes;
    all_bytes += bytes;
  }
  return all_bytes;
}

ptrdiff_t written_visit(size_t part, bool protect, written_visit_fn *visit, void *argument) {
  size_t page = part * part_pages;
  return visit_pages(page, min_size(page + part_pages, used_pages()), protect, visit, argument);
}

/* ---- a cycle begins ---- */

static void pass_over(void *argument, struct os_range range) { (void)argument, (void)range; }

/* What stands behind a chunk that was empty in between may be a huge page again. */
static void forget_split(void) {
  size_t count = chunk_states == NULL ? 0 : used_pages() / CHUNK_PAGES;
  for (size_t i = 0; i < count; i++) {
    if (arena_take_emptied(&heap_arena, i)) chunk_states[i] &= (uint8_t)~CHUNK_IS_SPLIT;
  }
}

int written_protect(void) {
  int error = watch();
  if (error != 0) return error;
  forget_split();
  ptrdiff_t bytes = visit_pages(0, used_pages(), true, pass_over, NULL);
  return bytes < 0 ? (int)bytes : 0;
}

/* ---- a cycle has ended ---- */

enum { ALLOW_LEAST_PAGES = 16, ALLOW_LEAST_PAGES_DEAR = 2 }; /* see os_dirty_allow */

/* Whether half a page of small slots is free. */
static bool has_much_room(size_t page, uint16_t info) {
  if (page_info_class(info) == 0) return false;
  size_t objects = mark_bits_count(&heap_arena, alloc_side(), heap_arena.start + (page << PAGE_SHIFT), PAGE_BYTES);
  return objects * size_class_bytes[page_info_class(info)] <= PAGE_BYTES / 2;
}

static bool will_be_written(size_t page, bool only_room) {
  uint16_t info = atomic_load_relaxed(&heap_arena.page_info[page]);
  if (info == 0 || page_info_scan(info) == SCAN_NONE) return false;
  return !only_room || has_much_room(page, info);
}

/* The OS pages that lie in [page, end) as a whole. */
static void allow_run(size_t page, size_t end) {
  uintptr_t from = round_up(heap_arena.start + (page << PAGE_SHIFT), os_page_bytes());
  uintptr_t to = round_down(heap_arena.start + (end << PAGE_SHIFT), os_page_bytes());
  if (from < to) os_dirty_allow((void *)from, to - from);
}

/* Of a huge page that is whole, all or nothing, which would split it. */
static size_t allow_least_pages(size_t chunk) {
  if (is_whole(chunk)) return CHUNK_PAGES;
  return writes_are_dear() ? ALLOW_LEAST_PAGES_DEAR : ALLOW_LEAST_PAGES;
}

static void allow_in_chunk(size_t chunk, bool only_room) {
  size_t page = chunk * CHUNK_PAGES, end = min_size(page + CHUNK_PAGES, used_pages());
  size_t least = allow_least_pages(chunk);
  for (size_t next; page < end; page = next + 1) {
    for (next = page; next < end && will_be_written(next, only_room);) next++;
    if (next - page >= least) allow_run(page, next);
  }
}

/* The program runs, and may change what is looked at; to be wrong about a page makes nothing worse than slow. */
void written_allow(size_t part, bool only_room) {
  size_t chunks = part_pages / CHUNK_PAGES,
         end = min_size((part + 1) * chunks, (used_pages() + CHUNK_PAGES - 1) / CHUNK_PAGES);
  for (size_t chunk = part * chunks; chunk < end; chunk++) {
    if ((chunk_state(chunk) & CHUNK_WAS_WRITTEN) != 0) allow_in_chunk(chunk, only_room);
  }
}

/* ---- outside the heap ---- */

/* What was protected before stays so; no cycle has read any of it since this one began. */
void written_protect_outside(struct os_range pages) {
  void *start = (void *)pages.start;
  size_t bytes = pages.end - pages.start;
  if (os_dirty_protect(start, bytes) == 0 || os_dirty_watch(start, bytes) != 0) return;
  os_dirty_protect(start, bytes);
}

ptrdiff_t written_visit_outside(struct os_range pages, bool protect, written_visit_fn *visit, void *argument) {
  return visit_run(pages, protect, visit, argument);
}
