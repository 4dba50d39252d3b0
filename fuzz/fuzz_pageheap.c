/* The page heap on fake addresses against an array with one entry a page.
 *
 * The reference knows who owns each page and whether memory stands behind it; it does not predict which span an
 * allocation takes (test/model/test_pageheap.c does), only that the pages were free, that one was found if there was
 * room, and that needs_zero, residency and all counters are right.
 *
 * Span structures are persistent memory that is never given back, so the allocator of the structures lives on from
 * input to input; everything else starts anew. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "os/os.h"
#include "page/arena.h"
#include "page/pageheap.h"

enum { PAGES = 1024, CHECK_INTERVAL = 64 };

static struct arena arena;
static struct pageheap heap;
static uint64_t clock_ns;
static bool release_fails, was_injected;

static struct {
  size_t used;               /* pages of the arena */
  struct span *owner[PAGES]; /* NULL for a free page */
  uint8_t residency[PAGES];  /* of free pages, enum page_residency */
  struct span *live[PAGES];
  size_t live_count;
  struct span *reclaimable; /* what the reclaim hook may free */
} model;

static size_t page_of(const struct span *span) { return arena_page_of(&arena, span->start); }

/* ---- hooks ---- */

static uint64_t fake_now_ns(void) { return clock_ns; }

static int fake_release(void *start, size_t bytes) {
  FUZZ_REQUIRE(
      bytes > 0 && is_aligned((uintptr_t)start, heap.release_unit_bytes) && is_aligned(bytes, heap.release_unit_bytes),
      "release of %zu bytes at %p", bytes, start);
  size_t first = arena_page_of(&arena, (uintptr_t)start);
  for (size_t i = first; i < first + bytes / PAGE_BYTES; i++) {
    FUZZ_REQUIRE(i < model.used && model.owner[i] == NULL, "release of page %zu, which is not free", i);
    if (!release_fails && model.residency[i] == PAGE_RESIDENT) model.residency[i] = PAGE_RELEASED;
  }
  return release_fails ? -ENOMEM : 0;
}

static void forget(struct span *span) {
  size_t first = page_of(span);
  for (size_t i = first; i < first + span->page_count; i++) {
    FUZZ_REQUIRE(model.owner[i] == span, "owner of page %zu", i);
    model.owner[i] = NULL;
    model.residency[i] = PAGE_RESIDENT;
  }
  for (size_t i = 0; i < model.live_count; i++) {
    if (model.live[i] == span) model.live[i] = model.live[--model.live_count];
  }
}

static void free_span(struct span *span) {
  forget(span);
  pageheap_free(&heap, span);
}

static void fake_reclaim(size_t pages) {
  FUZZ_REQUIRE(pages > 0, "reclaim of nothing");
  struct span *span = model.reclaimable;
  model.reclaimable = NULL;
  if (span != NULL) free_span(span);
}

static const struct pageheap_hooks hooks = {.now_ns = fake_now_ns, .release = fake_release, .reclaim = fake_reclaim};

/* ---- checks ---- */

/* New pages of the arena are fresh. */
static void note_growth(void) {
  size_t used = arena_page_of(&arena, arena.used);
  FUZZ_REQUIRE(used >= model.used && used <= PAGES, "the arena went from %zu to %zu pages", model.used, used);
  for (; model.used < used; model.used++) model.residency[model.used] = PAGE_FRESH;
}

static size_t longest_free_run(void) {
  size_t longest = 0, run = 0;
  for (size_t i = 0; i < model.used; i++) {
    run = model.owner[i] == NULL ? run + 1 : 0;
    longest = max_size(longest, run);
  }
  return longest;
}

static size_t free_tail(void) {
  size_t tail = 0;
  while (tail < model.used && model.owner[model.used - 1 - tail] == NULL) tail++;
  return tail;
}

static bool has_room(size_t pages, bool may_grow) {
  if (longest_free_run() >= pages) return true;
  size_t limit = min_size(PAGES, arena.limit_bytes / PAGE_BYTES);
  return may_grow && pages <= free_tail() + (limit > model.used ? limit - model.used : 0);
}

static void check_stats(void) {
  struct pageheap_stats stats;
  size_t in_use = 0, stack = 0, idle = 0, released = 0, fresh = 0;
  for (size_t i = 0; i < model.used; i++) {
    const struct span *owner = model.owner[i];
    in_use += owner != NULL && span_state(owner) == SPAN_IN_USE;
    stack += owner != NULL && span_state(owner) == SPAN_STACK;
    idle += owner == NULL;
    released += owner == NULL && model.residency[i] == PAGE_RELEASED;
    fresh += owner == NULL && model.residency[i] == PAGE_FRESH;
    FUZZ_REQUIRE(arena_span_of(&arena, arena.start + i * PAGE_BYTES + i) == owner, "lookup of page %zu", i);
    FUZZ_REQUIRE(owner != NULL || arena.residency[i] == model.residency[i], "residency of page %zu", i);
  }
  pageheap_read_stats(&heap, &stats);
  FUZZ_REQUIRE(stats.in_use_bytes == in_use * PAGE_BYTES, "in use: %zu", stats.in_use_bytes);
  FUZZ_REQUIRE(stats.stack_bytes == stack * PAGE_BYTES, "stack: %zu", stats.stack_bytes);
  FUZZ_REQUIRE(stats.idle_bytes == idle * PAGE_BYTES, "idle: %zu", stats.idle_bytes);
  FUZZ_REQUIRE(stats.released_bytes == released * PAGE_BYTES, "released: %zu", stats.released_bytes);
  FUZZ_REQUIRE(stats.fresh_bytes == fresh * PAGE_BYTES, "fresh: %zu", stats.fresh_bytes);
  FUZZ_REQUIRE(stats.system_bytes == model.used * PAGE_BYTES, "system: %zu", stats.system_bytes);
  FUZZ_REQUIRE(heap.spans.in_use_count == model.live_count + stats.free_spans, "span structures are lost");
}

static void check_everything(void) {
  pageheap_verify(&heap);
  check_stats();
}

/* ---- operations ---- */

static void note_span(struct span *span) {
  bool dirty = false;
  size_t first = page_of(span);
  for (size_t i = first; i < first + span->page_count; i++) {
    FUZZ_REQUIRE(i < model.used && model.owner[i] == NULL, "page %zu was handed out twice", i);
    dirty = dirty || model.residency[i] == PAGE_RESIDENT;
    model.owner[i] = span;
  }
  FUZZ_REQUIRE(span->needs_zero == dirty, "needs_zero is %d", span->needs_zero);
  model.live[model.live_count++] = span;
}

static void op_alloc(struct fuzz_input *input) {
  uint8_t how = fuzz_byte(input);
  size_t pages = fuzz_size(input, 11);
  size_t alignment = PAGE_BYTES << (how & 8 ? fuzz_below(input, 11) : 0);
  enum span_state state = how & 1 ? SPAN_STACK : SPAN_IN_USE;
  bool may_grow = (how & 6) != 0, inject = (how & 0x70) == 0x70;
  if (how & 0x80 && model.live_count > 0) model.reclaimable = model.live[fuzz_below(input, model.live_count)];
  if (inject) os_fail_after(1 + (uint32_t)fuzz_below(input, 4), fuzz_byte(input) & 1);
  struct span *span = how & 8 ? pageheap_alloc_aligned(&heap, pages, alignment, state, may_grow)
                              : pageheap_alloc(&heap, pages, state, may_grow);
  os_fail_after(0, false);
  was_injected = was_injected || inject;
  model.reclaimable = NULL;
  note_growth();
  if (span == NULL) {
    size_t needed = pages + alignment / PAGE_BYTES - 1;
    FUZZ_REQUIRE(inject || pages == 0 || !has_room(needed, may_grow), "no span of %zu pages", pages);
    return;
  }
  FUZZ_REQUIRE(pages > 0 && span->page_count == pages && is_aligned(span->start, alignment) &&
                   span_state(span) == state && span->size_class == 0 && !span->has_specials,
               "the span of %zu pages is wrong", pages);
  note_span(span);
}

static void op_reserve(struct fuzz_input *input) {
  size_t pages = fuzz_size(input, 11);
  bool room = has_room(pages, true);
  int error = pageheap_reserve(&heap, pages);
  note_growth();
  FUZZ_REQUIRE(error == (room || pages == 0 ? 0 : -ENOMEM), "reserving %zu pages: %d", pages, error);
  FUZZ_REQUIRE(error != 0 || longest_free_run() >= pages, "%zu pages are not there", pages);
}

static size_t resident_pages(void) {
  size_t count = 0;
  for (size_t i = 0; i < model.used; i++) count += model.owner[i] == NULL && model.residency[i] == PAGE_RESIDENT;
  return count;
}

static void op_release(struct fuzz_input *input) {
  uint8_t how = fuzz_byte(input);
  size_t goal = how & 1 ? SIZE_MAX : fuzz_size(input, 23);
  uint64_t unused_ns = how & 2 ? 0 : fuzz_size(input, 16);
  release_fails = (how & 0x1c) == 0x1c;
  size_t before = resident_pages();
  size_t released = pageheap_release(&heap, goal, unused_ns);
  FUZZ_REQUIRE(released == (before - resident_pages()) * PAGE_BYTES, "released %zu bytes, as it says", released);
  FUZZ_REQUIRE(goal == SIZE_MAX || released < goal + heap.release_unit_bytes, "released %zu of %zu", released, goal);
  if (goal == SIZE_MAX && unused_ns == 0 && !release_fails && heap.release_unit_bytes == PAGE_BYTES)
    FUZZ_REQUIRE(resident_pages() == 0, "%zu free pages stay resident", resident_pages());
}

static void operate(struct fuzz_input *input) {
  uint8_t operation = fuzz_byte(input);
  clock_ns += 1 + (operation >> 4);
  switch (operation % 16) {
    case 0:
      op_release(input);
      break;
    case 1:
      op_reserve(input);
      break;
    case 2:
      arena.limit_bytes = fuzz_byte(input) & 1 ? SIZE_MAX : fuzz_size(input, 24);
      break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
      if (model.live_count > 0) free_span(model.live[fuzz_below(input, model.live_count)]);
      break;
    default:
      op_alloc(input);
  }
}

/* ---- one input ---- */

static void start(struct fuzz_input *input) {
  static const unsigned units[] = {1, 1, 2, 8};
  static bool started;
  struct fixalloc spans = heap.spans;
  if (!started) os_init();
  memset(&model, 0, sizeof(model));
  clock_ns = 0;
  FUZZ_REQUIRE(arena_init_fake(&arena, ((uintptr_t)1 << 47) - PAGES * PAGE_BYTES, PAGES * PAGE_BYTES) == 0,
               "no fake arena");
  pageheap_init(&heap, &arena, &hooks);
  if (started) heap.spans = spans;
  heap.release_unit_bytes = PAGE_BYTES * units[fuzz_byte(input) % 4];
  heap.grow_bytes = fuzz_size(input, 22);
  started = true;
}

/* Everything free must merge into one span, whose structure goes back by hand. */
static void finish(void) {
  while (model.live_count > 0) free_span(model.live[model.live_count - 1]);
  check_everything();
  size_t expected = model.used > 0;
  FUZZ_REQUIRE(heap.free.count == expected && heap.spans.in_use_count == expected, "%zu free spans are left",
               heap.free.count);
  if (model.used > 0) {
    struct span *last = arena.spans[0];
    freeset_remove(&heap.free, last);
    freeset_age_remove(&heap.free, last);
    span_set_state(last, SPAN_DEAD);
    fixalloc_free(&heap.spans, last);
  }
  arena_destroy(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  struct fuzz_input input = {data, data + bytes};
  start(&input);
  for (size_t step = 1; !fuzz_is_empty(&input); step++) {
    operate(&input);
    if (step % CHECK_INTERVAL == 0) check_everything();
  }
  finish();
  return 0;
}
