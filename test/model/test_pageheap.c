/* The page heap against a model that keeps one entry per page and finds everything by looking at all of them.
 *
 * The heap works on fake addresses, with a clock and a release function of the test's own.  The model predicts every
 * result: by how much the arena grows, which free span an allocation takes (by the rule in pageheap.h), needs_zero, the
 * pages that a release gives back and the age of each free span.  Where several spans of the same size wait in one list
 * any of them is accepted, if the rule accepts that one.
 *
 * MIDDEN_TEST_SEED, or the first argument, repeats a run; MIDDEN_TEST_STEPS sets its length. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/bits.h"
#include "base/list.h"
#include "meta/persist.h"
#include "os/os.h"
#include "page/arena.h"
#include "page/pageheap.h"
#include "support/heap_test.h"

enum { MODEL_PAGES = 4096, STEPS = 500000, FULL_CHECK_INTERVAL = 512 };

#define MIB ((size_t)1 << 20)
#define MODEL_BYTES (MODEL_PAGES * PAGE_BYTES)

/* The last byte of the model's arena is the last below 2^47. */
#define MODEL_START (((uintptr_t)1 << 47) - MODEL_BYTES)

/* ---- the model ---- */

struct model {
  size_t used;                     /* pages in the arena */
  struct span *owner[MODEL_PAGES]; /* NULL for a free page */
  uint8_t residency[MODEL_PAGES];  /* of free pages */
  uint64_t since[MODEL_PAGES];     /* of free pages: the age of their span */
  bool parked[MODEL_PAGES]; /* of free pages: the heap has seen that their span holds no whole OS page to release */
  size_t in_use, stack;     /* pages */
};

struct run {
  size_t first, count, resident;
};

static struct model model;
static struct arena arena;
static struct pageheap heap;
static uint64_t clock_ns;
static struct rng rng;

static bool find_run(size_t *cursor, struct run *run) {
  size_t page = *cursor;
  while (page < model.used && model.owner[page] != NULL) page += model.owner[page]->page_count;
  if (page >= model.used) return false;
  *run = (struct run){.first = page};
  for (; page < model.used && model.owner[page] == NULL; page++)
    run->resident += model.residency[page] == PAGE_RESIDENT;
  run->count = page - run->first;
  *cursor = page;
  return true;
}

static struct run run_around(size_t page) {
  struct run run;
  while (page > 0 && model.owner[page - 1] == NULL) page--;
  REQUIRE(find_run(&page, &run), "no run");
  return run;
}

static bool is_resident(const struct run *run) { return run->resident == run->count; }

/* What the rule has to choose from; of each sort the smallest, the lowest among equals; count 0 for none. */
struct candidates {
  struct run resident, absent;
};

static struct candidates find_candidates(size_t pages) {
  struct candidates found = {0};
  struct run run;
  for (size_t cursor = 0; find_run(&cursor, &run);) {
    struct run *best = is_resident(&run) ? &found.resident : &found.absent;
    if (run.count >= pages && (best->count == 0 || run.count < best->count)) *best = run;
  }
  return found;
}

static bool is_empty(const struct candidates *candidates) {
  return candidates->resident.count == 0 && candidates->absent.count == 0;
}

/* The rule, for one absent run that is smaller than every resident one. */
static bool rule_prefers_absent(size_t first, size_t count, size_t resident_count, size_t pages) {
  size_t missing = 0;
  for (size_t i = 0; i < pages; i++) missing += model.residency[first + i] != PAGE_RESIDENT;
  return missing == 0 || (count - pages <= pages / 8 && 16 * missing <= resident_count);
}

/* Whether the heap could have had an absent candidate that loses against the resident one. */
static bool some_absent_loses(const struct candidates *candidates, size_t pages) {
  struct run run;
  for (size_t cursor = 0; find_run(&cursor, &run);) {
    bool is_candidate = !is_resident(&run) && run.count == candidates->absent.count &&
                        (run.count < FREESET_LISTS || run.first == candidates->absent.first);
    if (is_candidate && !rule_prefers_absent(run.first, run.count, candidates->resident.count, pages)) return true;
  }
  return false;
}

static void check_choice(const struct candidates *candidates, const struct run *chosen, size_t pages) {
  const struct run *resident = &candidates->resident, *absent = &candidates->absent;
  const struct run *best = is_resident(chosen) ? resident : absent;
  REQUIRE(chosen->count == best->count, "took %zu pages, best fit is %zu, wanted %zu", chosen->count, best->count,
          pages);
  if (chosen->count >= FREESET_LISTS) {
    REQUIRE(chosen->first == best->first, "took page %zu, lowest is %zu", chosen->first, best->first);
  }
  if (resident->count == 0 || absent->count == 0) return;
  if (best == resident) {
    REQUIRE(absent->count >= resident->count || some_absent_loses(candidates, pages),
            "took %zu resident pages where %zu absent ones win", resident->count, absent->count);
  } else {
    REQUIRE(
        absent->count < resident->count && rule_prefers_absent(chosen->first, chosen->count, resident->count, pages),
        "took %zu absent pages where %zu resident ones win", absent->count, resident->count);
  }
}

/* The age of the span that results when the pages [first, first + count), resident or not, join their neighbours. */
static void model_join(size_t first, size_t count, size_t resident) {
  bool has_left = first > 0 && model.owner[first - 1] == NULL;
  bool has_right = first + count < model.used && model.owner[first + count] == NULL;
  struct run left = {0}, right = {0};
  uint64_t since = clock_ns;
  for (size_t i = first; i < first + count; i++) model.owner[i] = (struct span *)1; /* keeps the neighbours apart */
  if (has_left) {
    left.first = left.count = 0;
    size_t page = first;
    while (page > 0 && model.owner[page - 1] == NULL) left.resident += model.residency[--page] == PAGE_RESIDENT;
    left = (struct run){page, first - page, left.resident};
  }
  if (has_right) {
    size_t page = first + count;
    right.first = page;
    for (; page < model.used && model.owner[page] == NULL; page++)
      right.resident += model.residency[page] == PAGE_RESIDENT;
    right.count = page - right.first;
  }
  size_t most = resident;
  if (left.resident > most) {
    most = left.resident;
    if (!model.parked[left.first]) since = model.since[left.first];
  }
  if (right.resident > most) since = model.parked[right.first] ? clock_ns : model.since[right.first];
  for (size_t i = first - left.count; i < first + count + right.count; i++) {
    model.owner[i] = NULL;
    model.since[i] = since;
    model.parked[i] = false;
  }
}

static void model_grow(size_t pages) {
  size_t first = model.used;
  for (size_t i = first; i < first + pages; i++) model.residency[i] = PAGE_FRESH;
  model.used += pages;
  model_join(first, pages, 0);
}

/* By how many pages the arena must grow, first choice and second; 0 where it cannot. */
static size_t predict_growth(size_t pages, size_t *need) {
  size_t tail = 0;
  while (tail < model.used && model.owner[model.used - 1 - tail] == NULL) tail++;
  *need = pages - tail;
  size_t step = max_size((model.used + 7) / 8, heap.grow_bytes / PAGE_BYTES);
  size_t ask = max_size(round_up(*need, 8), round_up(step, 8));
  if (ask >= CHUNK_PAGES) ask = round_up(model.used + ask, CHUNK_PAGES) - model.used; /* whole chunks from here on */
  size_t room = MODEL_PAGES - model.used;
  if (ask <= room) return ask;
  return *need <= room ? *need : 0;
}

/* ---- the heap's hooks ---- */

static uint64_t fake_now_ns(void) { return clock_ns; }

static bool release_fails;
static size_t release_most_bytes = 512 << 10, released_again_bytes;

static int fake_release(void *start, size_t bytes) {
  uintptr_t address = (uintptr_t)start;
  released_again_bytes += bytes;
  REQUIRE(bytes > 0 && bytes <= release_most_bytes && is_aligned(address, heap.release_unit_bytes) &&
              is_aligned(bytes, heap.release_unit_bytes),
          "release of %zu bytes at %p", bytes, start);
  REQUIRE(arena_contains(&arena, address) && arena_contains(&arena, address + bytes - 1), "release outside");
  for (size_t i = 0; i < bytes / PAGE_BYTES; i++) {
    REQUIRE(model.owner[arena_page_of(&arena, address) + i] == NULL, "release of a page in use");
  }
  REQUIRE(lock_is_held_by_me(&heap.lock), "release without the lock");
  return release_fails ? -ENOMEM : 0;
}

/* ---- steps ---- */

static struct span *live[MODEL_PAGES];
static size_t live_count;

static void check_map(const struct span *span) {
  for (size_t i = 0; i < span->page_count; i++) {
    uintptr_t page = span->start + i * PAGE_BYTES;
    REQUIRE(arena.spans[arena_page_of(&arena, page)] == span, "table entry of page %zu", i);
    REQUIRE(arena_span_of(&arena, page + rng_below(&rng, PAGE_BYTES)) == span, "lookup of page %zu", i);
  }
}

static void model_take(struct span *span, enum span_state state) {
  size_t first = arena_page_of(&arena, span->start);
  bool dirty = false;
  for (size_t i = 0; i < span->page_count; i++) {
    REQUIRE(model.owner[first + i] == NULL, "page %zu was handed out twice", first + i);
    dirty = dirty || model.residency[first + i] == PAGE_RESIDENT;
    model.owner[first + i] = span;
  }
  REQUIRE(span->needs_zero == dirty, "needs_zero is %d", span->needs_zero);
  *(state == SPAN_IN_USE ? &model.in_use : &model.stack) += span->page_count;
}

static void check_upper_fields(const struct span *span) {
  REQUIRE(span->size_class == 0 && span->kind == 0 && !span->in_cache && span->slot_bytes_small == 0 &&
              span->slot_count == 0 && span->live_count == 0 && span->free_index == 0 && !span->has_specials &&
              span->link.list == NULL,
          "fields of the layers above are not cleared");
}

/* As a layer above would: nothing of this may reach the next owner. */
static void write_upper_fields(struct span *span) {
  span->size_class = span->kind = 1;
  span->in_cache = span->has_specials = true;
  span->slot_bytes_small = span->slot_count = span->live_count = 1;
  span->free_index = 1;
}

static void step_alloc(size_t pages, size_t alignment, bool may_grow, bool inject) {
  enum span_state state = rng_one_in(&rng, 10) ? SPAN_STACK : SPAN_IN_USE;
  size_t total = pages + alignment / PAGE_BYTES - 1, need = 0, growth = 0;
  struct candidates candidates = find_candidates(total);
  if (is_empty(&candidates) && may_grow) growth = predict_growth(total, &need);
  if (inject) os_fail_after(1 + (uint32_t)rng_below(&rng, 3), rng_one_in(&rng, 2));
  struct span *span = alignment == PAGE_BYTES && rng_one_in(&rng, 2)
                          ? pageheap_alloc(&heap, pages, state, may_grow)
                          : pageheap_alloc_aligned(&heap, pages, alignment, state, may_grow);
  os_fail_after(0, false);
  size_t grown = arena_page_of(&arena, arena.used) - model.used;
  if (inject) {
    REQUIRE(grown == growth || grown == need || grown == 0, "grew by %zu, not %zu", grown, growth);
  } else {
    REQUIRE(grown == growth, "grew by %zu, not %zu", grown, growth);
  }
  if (grown > 0) model_grow(grown);
  candidates = find_candidates(total);
  if (span == NULL) {
    REQUIRE(inject || is_empty(&candidates), "no span of %zu pages", pages);
    return;
  }
  REQUIRE(!is_empty(&candidates), "a span of %zu pages from nowhere", pages);
  struct run chosen = run_around(arena_page_of(&arena, span->start));
  uintptr_t expected = round_up(arena.start + chosen.first * PAGE_BYTES, alignment);
  REQUIRE(span->start == expected && span->page_count == pages && span_state(span) == state, "the span is wrong");
  check_choice(&candidates, &chosen, total);
  model_take(span, state);
  check_map(span);
  check_upper_fields(span);
  write_upper_fields(span);
  live[live_count++] = span;
}

static void forget_live(const struct span *span) {
  size_t index = 0;
  while (live[index] != span) index++;
  live[index] = live[--live_count];
  size_t first = arena_page_of(&arena, span->start), count = span->page_count;
  *(span_state(span) == SPAN_IN_USE ? &model.in_use : &model.stack) -= count;
  for (size_t i = 0; i < count; i++) REQUIRE(model.owner[first + i] == span, "owner of page %zu", first + i);
}

static void model_free(size_t first, size_t count) {
  for (size_t i = 0; i < count; i++) model.residency[first + i] = PAGE_RESIDENT;
  model_join(first, count, count);
}

static void step_free(size_t index) {
  struct span *span = live[index];
  size_t first = arena_page_of(&arena, span->start), count = span->page_count;
  forget_live(span);
  pageheap_free(&heap, span);
  model_free(first, count);
}

static struct span being_freed;

static struct span *live_span_at(size_t page) {
  struct span *span = page < model.used ? model.owner[page] : NULL;
  return span != &being_freed ? span : NULL;
}

static int by_address(const void *left, const void *right) {
  uintptr_t a = (*(struct span *const *)left)->start, b = (*(struct span *const *)right)->start;
  return (a > b) - (a < b);
}

/* Some of them follow one another.  In the order of their addresses, as they are unused for equally long afterwards: the model
 * takes the lowest of such for the oldest. */
static void step_free_many(void) {
  enum { MOST = 12 };
  struct span *spans[MOST] = {NULL};
  size_t count = 0, wanted = rng_below(&rng, MOST + 1);
  for (struct span *next = NULL; count < wanted && live_count > 0; count++) {
    struct span *span = next != NULL ? next : live[rng_below(&rng, live_count)];
    size_t first = arena_page_of(&arena, span->start), pages = span->page_count;
    forget_live(span);
    for (size_t i = 0; i < pages; i++) model.owner[first + i] = &being_freed;
    next = rng_one_in(&rng, 4) ? NULL : live_span_at(first + pages);
    spans[count] = span;
  }
  qsort(spans, count, sizeof spans[0], by_address);
  size_t firsts[MOST], counts[MOST];
  for (size_t i = 0; i < count; i++) {
    firsts[i] = arena_page_of(&arena, spans[i]->start);
    counts[i] = spans[i]->page_count;
  }
  pageheap_free_many(&heap, spans, count);
  for (size_t i = 0; i < count; i++) {
    size_t pages = counts[i], first = firsts[i];
    for (; i + 1 < count && firsts[i + 1] == first + pages; i++) pages += counts[i + 1];
    model_free(first, pages);
  }
}

/* The run whose resident pages have been unused for longest and have not been found to be stuck. */
static bool oldest_run(struct run *oldest) {
  struct run run;
  bool found = false;
  for (size_t cursor = 0; find_run(&cursor, &run);) {
    if (run.resident == 0 || model.parked[run.first]) continue;
    if (found && model.since[run.first] >= model.since[oldest->first]) continue;
    *oldest = run;
    found = true;
  }
  return found;
}

/* Gives back the highest unit of a run that has a resident page; returns how many, 0 where there is none. */
static size_t model_release_unit(const struct run *run) {
  size_t unit = heap.release_unit_bytes / PAGE_BYTES;
  size_t low = round_up(run->first, unit), high = round_down(run->first + run->count, unit);
  for (size_t end = high; end > low && end >= unit; end -= unit) {
    size_t released = 0;
    for (size_t i = end - unit; i < end; i++) {
      if (model.residency[i] != PAGE_RESIDENT) continue;
      if (!release_fails) model.residency[i] = PAGE_RELEASED;
      released++;
    }
    if (released > 0) return released;
  }
  return 0;
}

static size_t model_release(size_t goal_bytes, uint64_t unused_ns) {
  size_t released_bytes = 0;
  struct run run;
  while (released_bytes < goal_bytes && oldest_run(&run) && clock_ns - model.since[run.first] >= unused_ns) {
    size_t released = model_release_unit(&run);
    for (size_t i = 0; released == 0 && i < run.count; i++) model.parked[run.first + i] = true;
    if (release_fails && released > 0) return 0;
    released_bytes += released * PAGE_BYTES;
  }
  return released_bytes;
}

static void step_release(void) {
  size_t goal_bytes = rng_one_in(&rng, 4) ? SIZE_MAX : rng_size(&rng, MODEL_BYTES / 4);
  uint64_t unused_ns = rng_one_in(&rng, 2) ? 0 : rng_size(&rng, 1 << 16);
  release_fails = rng_one_in(&rng, 10);
  size_t released_bytes = pageheap_release(&heap, goal_bytes, unused_ns);
  size_t expected = model_release(goal_bytes, unused_ns);
  REQUIRE(released_bytes == expected, "released %zu bytes, expected %zu", released_bytes, expected);
}

/* What counts as absent in a chunk that something has made whole; page by page. */
static size_t absent_bytes(size_t first) {
  size_t unit_pages = heap.release_unit_bytes / PAGE_BYTES, absent = 0;
  for (size_t i = first; i < first + CHUNK_PAGES; i += unit_pages) {
    size_t count = 0;
    for (size_t k = i; k < i + unit_pages; k++) count += model.owner[k] == NULL && model.residency[k] != PAGE_RESIDENT;
    if (count == unit_pages) absent += unit_pages;
  }
  return absent * PAGE_BYTES;
}

static void step_release_again(void) {
  size_t chunk = rng_below(&rng, MODEL_PAGES / CHUNK_PAGES), first = chunk * CHUNK_PAGES, owned = 0;
  bool exists = first + CHUNK_PAGES <= model.used;
  for (size_t i = first; exists && i < first + CHUNK_PAGES; i++) owned += model.owner[i] != NULL;
  REQUIRE(pageheap_chunk_is_full(&heap, chunk) == (owned == CHUNK_PAGES),
          "chunk %zu is full: %zu pages of it are owned", chunk, owned);
  if (!exists) return;
  release_fails = false;
  released_again_bytes = 0;
  release_most_bytes = CHUNK_BYTES;
  pageheap_release_again(&heap, chunk);
  release_most_bytes = 512 << 10;
  REQUIRE(released_again_bytes == absent_bytes(first), "released %zu bytes again, not %zu", released_again_bytes,
          absent_bytes(first));
}

/* ---- checks of everything ---- */

static void check_run(const struct run *run) {
  uintptr_t start = arena.start + run->first * PAGE_BYTES;
  const struct span *span = arena.spans[run->first];
  REQUIRE(span != NULL && span->start == start && span->page_count == run->count && span_state(span) == SPAN_FREE,
          "free run at page %zu", run->first);
  REQUIRE(arena.spans[run->first + run->count - 1] == span, "last page of the free run at %zu", run->first);
  REQUIRE(span->released_pages == run->count - run->resident, "released pages of the run at %zu", run->first);
  if (run->resident > 0 && !model.parked[run->first]) {
    REQUIRE(span->unused_since_ns == model.since[run->first], "age of the run at %zu", run->first);
  }
  for (size_t i = 0; i < run->count; i++) {
    REQUIRE(arena.residency[run->first + i] == model.residency[run->first + i], "residency of %zu", run->first + i);
    REQUIRE(arena_span_of(&arena, start + i * PAGE_BYTES) == NULL, "lookup of the free page %zu", run->first + i);
  }
}

static void check_everything(void) {
  struct pageheap_stats stats, expected = {0};
  struct run run;
  pageheap_verify(&heap);
  pageheap_read_stats(&heap, &stats);
  for (size_t cursor = 0; find_run(&cursor, &run);) {
    check_run(&run);
    expected.free_spans++;
    expected.idle_bytes += run.count * PAGE_BYTES;
    for (size_t i = 0; i < run.count; i++) {
      if (model.residency[run.first + i] == PAGE_RELEASED) expected.released_bytes += PAGE_BYTES;
      if (model.residency[run.first + i] == PAGE_FRESH) expected.fresh_bytes += PAGE_BYTES;
    }
  }
  for (size_t i = 0; i < live_count; i++) check_map(live[i]);
  REQUIRE(stats.free_spans == expected.free_spans, "free spans: %zu", stats.free_spans);
  REQUIRE(stats.idle_bytes == expected.idle_bytes, "idle: %zu", stats.idle_bytes);
  REQUIRE(stats.released_bytes == expected.released_bytes, "released: %zu", stats.released_bytes);
  REQUIRE(stats.fresh_bytes == expected.fresh_bytes, "fresh: %zu", stats.fresh_bytes);
  REQUIRE(stats.in_use_bytes == model.in_use * PAGE_BYTES, "in use: %zu", stats.in_use_bytes);
  REQUIRE(stats.stack_bytes == model.stack * PAGE_BYTES, "stack: %zu", stats.stack_bytes);
  REQUIRE(stats.system_bytes == model.used * PAGE_BYTES, "system: %zu", stats.system_bytes);
  REQUIRE(heap.spans.in_use_count == live_count + stats.free_spans, "span structures are lost");
}

/* ---- runs ---- */

static void start_heap(const struct pageheap_hooks *hooks, uintptr_t start, size_t bytes) {
  release_fails = false;
  assert_int_equal(arena_init_fake(&arena, start, bytes), 0);
  pageheap_init(&heap, &arena, hooks);
}

static const struct pageheap_hooks fake_hooks = {.now_ns = fake_now_ns, .release = fake_release};

static void random_step(bool shrinking) {
  size_t kind = rng_below(&rng, 100);
  clock_ns += 1 + rng_below(&rng, 100);
  if (kind < 2) {
    step_release();
  } else if (kind == 2) {
    step_release_again();
  } else if (kind < 6) {
    step_free_many();
  } else if (live_count > 0 && kind < (shrinking ? 70u : 38u)) {
    step_free(rng_below(&rng, live_count));
  } else {
    size_t pages = rng_one_in(&rng, 8) ? rng_size(&rng, 1000) : rng_size(&rng, 40);
    size_t alignment = rng_one_in(&rng, 12) ? PAGE_BYTES << rng_below(&rng, 7) : PAGE_BYTES;
    step_alloc(pages, alignment, !rng_one_in(&rng, 8), rng_one_in(&rng, 60));
  }
}

/* Grows and shrinks in turns; at the end everything must merge into one span. */
static void run_model(size_t steps, size_t release_unit_bytes) {
  model = (struct model){0};
  live_count = 0;
  start_heap(&fake_hooks, MODEL_START, MODEL_BYTES);
  heap.release_unit_bytes = release_unit_bytes;
  for (size_t step = 0; step < steps; step++) {
    random_step(step / 1500 % 3 == 2);
    if (step % FULL_CHECK_INTERVAL == 0) check_everything();
  }
  check_everything();
  while (live_count > 0) step_free(rng_below(&rng, live_count));
  check_everything();
  REQUIRE(heap.free.count == 1, "%zu free spans are left", heap.free.count);
  arena_destroy(&arena);
}

static void random_steps_match_the_model(void **state) {
  (void)state;
  run_model(test_steps(STEPS), PAGE_BYTES);
}

static void random_steps_match_the_model_with_large_os_pages(void **state) {
  (void)state;
  run_model(test_steps(STEPS) / 4, 8 * PAGE_BYTES);
}

/* ---- what the model does not reach ---- */

static void senseless_requests_are_refused(void **state) {
  (void)state;
  start_heap(&fake_hooks, MODEL_START, MODEL_BYTES);
  assert_null(pageheap_alloc(&heap, 0, SPAN_IN_USE, true));
  assert_null(pageheap_alloc(&heap, SIZE_MAX, SPAN_IN_USE, true));
  assert_null(pageheap_alloc(&heap, SIZE_MAX >> PAGE_SHIFT, SPAN_IN_USE, true));
  assert_null(pageheap_alloc(&heap, MODEL_PAGES + 1, SPAN_IN_USE, true));
  assert_null(pageheap_alloc_aligned(&heap, 1, (size_t)1 << 63, SPAN_IN_USE, true));
  assert_null(pageheap_alloc(&heap, 1, SPAN_IN_USE, false));
  assert_int_equal(arena.used, arena.start);
  struct span *all = pageheap_alloc(&heap, MODEL_PAGES, SPAN_IN_USE, true);
  assert_non_null(all);
  assert_null(pageheap_alloc(&heap, 1, SPAN_IN_USE, true));
  pageheap_verify(&heap);
  arena_destroy(&arena);
}

/* What is free at the frontier counts: a hard limit can be used to its last page. */
static void growth_builds_on_the_free_tail(void **state) {
  (void)state;
  model = (struct model){0};
  start_heap(&fake_hooks, MODEL_START, MODEL_BYTES);
  atomic_store_relaxed(&arena.limit_bytes, 2 * MIB);
  struct span *first = pageheap_alloc(&heap, 10, SPAN_IN_USE, true);
  assert_non_null(first);
  assert_null(pageheap_alloc(&heap, 247, SPAN_IN_USE, true));
  struct span *second = pageheap_alloc(&heap, 246, SPAN_IN_USE, true);
  assert_non_null(second);
  assert_false(second->needs_zero);
  assert_int_equal(arena.used - arena.start, 2 * MIB);
  pageheap_verify(&heap);
  arena_destroy(&arena);
}

static struct span *reclaimable;
static size_t reclaim_calls, reclaim_pages;

static void fake_reclaim(size_t pages) {
  reclaim_calls++;
  reclaim_pages = pages;
  if (reclaimable != NULL) pageheap_free(&heap, reclaimable); /* takes the lock: it must not be held */
  reclaimable = NULL;
}

static void reclaiming_comes_before_growing(void **state) {
  (void)state;
  struct pageheap_hooks hooks = fake_hooks;
  hooks.reclaim = fake_reclaim;
  start_heap(&hooks, MODEL_START, MODEL_BYTES);
  struct span *span = pageheap_alloc(&heap, 128, SPAN_IN_USE, true);
  assert_int_equal(reclaim_calls, 1);
  assert_int_equal(heap.stats.grow_count, 1);

  reclaimable = span; /* freed by the hook, found after it */
  uintptr_t start = span->start;
  span = pageheap_alloc(&heap, 100, SPAN_IN_USE, true);
  assert_int_equal(span->start, start);
  assert_int_equal(reclaim_calls, 2);
  assert_int_equal(reclaim_pages, 100);
  assert_int_equal(heap.stats.grow_count, 1);

  assert_non_null(pageheap_alloc(&heap, 28, SPAN_IN_USE, true)); /* free: nobody is asked */
  assert_null(pageheap_alloc(&heap, 1, SPAN_IN_USE, false));     /* nor where growing is forbidden */
  assert_int_equal(reclaim_calls, 2);
  assert_non_null(pageheap_alloc(&heap, 1, SPAN_IN_USE, true)); /* in vain */
  assert_int_equal(reclaim_calls, 3);
  assert_int_equal(heap.stats.grow_count, 2);
  assert_non_null(pageheap_alloc(&heap, 1, SPAN_IN_USE, true)); /* free, but never touched: asked all the same */
  assert_int_equal(reclaim_calls, 4);
  assert_int_equal(heap.stats.grow_count, 2);
  pageheap_verify(&heap);
  arena_destroy(&arena);
}

/* A reclaimer that met a fresh span with the generation of the structure's last life took it for unswept, and freed it
 * under its owner. */
static void fresh_spans_count_as_swept(void **state) {
  (void)state;
  start_heap(&fake_hooks, MODEL_START, MODEL_BYTES);
  uint32_t before = span_generation;
  struct span *span = pageheap_alloc(&heap, 1, SPAN_IN_USE, true);
  assert_int_equal(span->sweep_generation, before);
  pageheap_free(&heap, span);
  span_generation = before + 2;
  span = pageheap_alloc(&heap, 1, SPAN_IN_USE, true);
  assert_int_equal(span->sweep_generation, before + 2);
  span_generation = before;
  arena_destroy(&arena);
}

static void reserving_touches_nothing(void **state) {
  (void)state;
  start_heap(&fake_hooks, MODEL_START, MODEL_BYTES);
  assert_int_equal(pageheap_reserve(&heap, 0), 0);
  assert_int_equal(arena.used, arena.start);
  assert_int_equal(pageheap_reserve(&heap, 1000), 0);
  assert_true(arena.used - arena.start >= 1000 * PAGE_BYTES);
  assert_int_equal(heap.stats.fresh_bytes, heap.stats.system_bytes);
  size_t grow_count = heap.stats.grow_count;
  assert_int_equal(pageheap_reserve(&heap, 1000), 0); /* is there already */
  struct span *span = pageheap_alloc(&heap, 1000, SPAN_IN_USE, false);
  assert_non_null(span);
  assert_false(span->needs_zero);
  assert_int_equal(heap.stats.grow_count, grow_count);
  assert_int_equal(pageheap_reserve(&heap, SIZE_MAX), -ENOMEM);
  pageheap_verify(&heap);
  arena_destroy(&arena);
}

/* A merge forgot what was known of the high end of a span, and the next release walked over all of it, for 100 GiB a
 * millisecond and a half under the lock. */
static void check_merging_remembers_the_top(size_t release_unit_bytes) {
  model = (struct model){0};
  release_fails = false; /* whatever the random steps left */
  start_heap(&fake_hooks, MODEL_START, MODEL_BYTES);
  heap.release_unit_bytes = release_unit_bytes;
  pageheap_free(&heap, pageheap_alloc(&heap, MODEL_PAGES, SPAN_IN_USE, true));
  model.used = MODEL_PAGES; /* all of it free, for fake_release */
  assert_int_equal(pageheap_release(&heap, SIZE_MAX, 0), MODEL_BYTES);
  pageheap_free(&heap, pageheap_alloc(&heap, 16, SPAN_IN_USE, true));
  pageheap_free(&heap, pageheap_alloc(&heap, 1, SPAN_IN_USE, true));
  assert_int_equal(heap.free.count, 1);
  assert_int_equal(arena.spans[0]->release_end, arena.start + 16 * PAGE_BYTES);
  assert_int_equal(pageheap_release(&heap, SIZE_MAX, 0), 16 * PAGE_BYTES);
  pageheap_verify(&heap);
  arena_destroy(&arena);
}

static void merging_remembers_the_top(void **state) {
  (void)state;
  check_merging_remembers_the_top(PAGE_BYTES);
  check_merging_remembers_the_top(8 * PAGE_BYTES);
}

/* Only spans that are resident in part make an allocation look at pages, and a free never looks. */
static void residency_is_read_where_it_is_in_doubt(void **state) {
  (void)state;
  model = (struct model){0};
  start_heap(&fake_hooks, MODEL_START, MODEL_BYTES);
  struct span *span = pageheap_alloc(&heap, 1000, SPAN_IN_USE, true); /* never touched */
  uint64_t fresh_reads = heap.residency_reads;
  assert_true(fresh_reads <= 1000); /* whether the pages were released before */
  pageheap_free(&heap, span);
  struct span *front =
      pageheap_alloc(&heap, 100, SPAN_IN_USE, true); /* of a part that was touched and one that was not */
  uint64_t mixed_reads = heap.residency_reads - fresh_reads;
  assert_true(mixed_reads <= 4 * 100);
  pageheap_free(&heap, front);
  assert_int_equal(heap.residency_reads, fresh_reads + mixed_reads);
  span = pageheap_alloc(&heap, arena_page_of(&arena, arena.used), SPAN_IN_USE, false);
  assert_non_null(span);
  pageheap_free(&heap, span); /* all is resident from here on */
  uint64_t before = heap.residency_reads;
  front = pageheap_alloc(&heap, 100, SPAN_IN_USE, false);
  assert_non_null(front);
  pageheap_free(&heap, front);
  assert_int_equal(heap.residency_reads, before);
  pageheap_verify(&heap);
  arena_destroy(&arena);
}

/* The arena may grow while marking, and spans may leave FREE; nothing may be freed. */
static int free_while_marking(void *argument) {
  (void)argument;
  start_heap(&fake_hooks, MODEL_START, MODEL_BYTES);
  struct span *span = pageheap_alloc(&heap, 5, SPAN_IN_USE, true);
  atomic_store_relaxed(&span_marking, true);
  if (pageheap_alloc_aligned(&heap, 300, 16 * PAGE_BYTES, SPAN_STACK, true) == NULL) return 1;
  pageheap_verify(&heap);
  pageheap_free(&heap, span);
  return 0;
}

static int free_twice(void *argument) {
  (void)argument;
  start_heap(&fake_hooks, MODEL_START, MODEL_BYTES);
  struct span *span = pageheap_alloc(&heap, 5, SPAN_STACK, true);
  pageheap_free(&heap, span);
  span->link.list = NULL; /* what a caller with an old pointer may find once the structure is in a tree */
  pageheap_free(&heap, span);
  return 0;
}

static int free_while_listed(void *argument) {
  (void)argument;
  static struct list list;
  start_heap(&fake_hooks, MODEL_START, MODEL_BYTES);
  struct span *span = pageheap_alloc(&heap, 5, SPAN_IN_USE, true);
  list_push_front(&list, &span->link);
  pageheap_free(&heap, span);
  return 0;
}

static void check_death(int (*run)(void *argument), const char *message) {
  struct test_outcome outcome = test_child(run, NULL, 10);
  REQUIRE(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT, "status 0x%x: %s",
          (unsigned)outcome.status, outcome.message);
  REQUIRE(strstr(outcome.message, message) != NULL, "%s", outcome.message);
}

static void misuse_stops_the_process(void **state) {
  (void)state;
  check_death(free_while_marking, "illegal step from in use to free while marking");
  check_death(free_twice, "illegal step from free to free");
  check_death(free_while_listed, "while it is on a list");
}

/* A fixed sequence under every single failure of the system, and under failure from some call on. */
static void run_under_failure(uint32_t nth, bool forever, bool *was_hit) {
  struct span *spans[30];
  static const size_t pages[] = {1, 130, 3, 127, 600, 2, 128, 9, 300, 1};
  *was_hit = false;
  assert_int_equal(arena_init(&arena, 64 * MIB), 0);
  pageheap_init(&heap, &arena, &fake_hooks);
  os_fail_after(nth, forever);
  for (size_t i = 0; i < COUNT_OF(spans); i++) {
    size_t alignment = PAGE_BYTES << i % 4;
    spans[i] = pageheap_alloc_aligned(&heap, pages[i % COUNT_OF(pages)], alignment, SPAN_IN_USE, true);
    if (spans[i] == NULL) *was_hit = true;
    if (i % 3 == 2 && spans[i - 1] != NULL) {
      pageheap_free(&heap, spans[i - 1]);
      spans[i - 1] = NULL;
    }
    pageheap_verify(&heap);
  }
  os_fail_after(0, false);
  for (size_t i = 0; i < COUNT_OF(spans); i++) {
    if (spans[i] != NULL) pageheap_free(&heap, spans[i]);
  }
  pageheap_verify(&heap);
  assert_true(heap.free.count <= 1 && heap.spans.in_use_count == heap.free.count);
  assert_non_null(pageheap_alloc(&heap, 2000, SPAN_IN_USE, true));
  pageheap_verify(&heap);
  arena_destroy(&arena);
}

static void no_memory_is_survived_at_every_call(void **state) {
  (void)state;
  size_t hits = 0;
  for (uint32_t nth = 1; nth <= 40; nth++) {
    bool was_hit;
    run_under_failure(nth, false, &was_hit);
    hits += was_hit;
    run_under_failure(nth, true, &was_hit);
    hits += was_hit;
  }
  assert_true(hits >= 10);
}

/* Takes every structure that the heap could still get without the system; returns how many. */
static size_t drain_structures(void **blocks, size_t capacity) {
  size_t count = 0;
  while (persist_alloc(16, 16, PERSIST_OTHER) != NULL) continue;
  while (count < capacity && (blocks[count] = fixalloc_alloc(&heap.spans)) != NULL) count++;
  REQUIRE(count < capacity, "structures without end");
  return count;
}

static void without_structures_only_exact_fits_are_served(void **state) {
  (void)state;
  enum { CAPACITY = 4096 };
  static void *blocks[CAPACITY];
  start_heap(&fake_hooks, MODEL_START, MODEL_BYTES);
  struct span *span = pageheap_alloc(&heap, 128, SPAN_IN_USE, true);
  pageheap_free(&heap, span);
  os_fail_after(1, true);
  size_t count = drain_structures(blocks, CAPACITY);

  assert_null(pageheap_alloc(&heap, 100, SPAN_IN_USE, true));  /* the rest could not be described */
  assert_null(pageheap_alloc(&heap, 1000, SPAN_IN_USE, true)); /* nor what the arena would grow by */
  assert_int_equal(arena.used - arena.start, MIB);
  span = pageheap_alloc(&heap, 128, SPAN_IN_USE, true);
  assert_non_null(span);
  pageheap_free(&heap, span);
  pageheap_verify(&heap);

  fixalloc_free(&heap.spans, blocks[--count]); /* enough for a rest */
  assert_non_null(pageheap_alloc(&heap, 1, SPAN_IN_USE, true));
  fixalloc_free(&heap.spans, blocks[--count]); /* not enough for a gap and a rest: it is given back */
  size_t in_use = heap.spans.in_use_count;
  assert_null(pageheap_alloc_aligned(&heap, 30, 64 * PAGE_BYTES, SPAN_IN_USE, true));
  assert_int_equal(heap.spans.in_use_count, in_use);
  pageheap_verify(&heap);
  os_fail_after(0, false);

  while (count > 0) fixalloc_free(&heap.spans, blocks[--count]);
  assert_non_null(pageheap_alloc_aligned(&heap, 30, 64 * PAGE_BYTES, SPAN_IN_USE, true));
  pageheap_verify(&heap);
  arena_destroy(&arena);
}

/* Keys compared per allocation and free among `count` large free spans of nearly as many sizes. */
static double comparisons_per_step(size_t count) {
  size_t slot_pages = 1200;
  start_heap(&fake_hooks, (uintptr_t)1 << 40, (count + 1) * slot_pages * PAGE_BYTES);
  struct span **spans = calloc(count, sizeof(*spans));
  REQUIRE(spans != NULL, "no memory");
  for (size_t i = 0; i < count; i++) {
    spans[i] = pageheap_alloc(&heap, FREESET_LISTS + rng_below(&rng, 1000), SPAN_IN_USE, true);
    assert_non_null(pageheap_alloc(&heap, 1, SPAN_IN_USE, true)); /* keeps the others apart */
  }
  for (size_t i = 0; i < count; i++) pageheap_free(&heap, spans[i]);
  assert_true(heap.free.count >= count);
  uint64_t before = heap.free.resident.large.comparisons + heap.free.absent.large.comparisons;
  enum { MEASURED = 2000 };
  for (size_t i = 0; i < MEASURED; i++) {
    struct span *span = pageheap_alloc(&heap, FREESET_LISTS + rng_below(&rng, 900), SPAN_IN_USE, false);
    assert_non_null(span);
    pageheap_free(&heap, span);
  }
  uint64_t after = heap.free.resident.large.comparisons + heap.free.absent.large.comparisons;
  pageheap_verify(&heap);
  arena_destroy(&arena);
  free(spans);
  return (double)(after - before) / MEASURED;
}

static void a_large_fit_costs_the_logarithm_of_the_spans(void **state) {
  (void)state;
  double few = comparisons_per_step(100), many = comparisons_per_step(6400);
  printf("comparisons per allocation and free: %.1f among 100 spans, %.1f among 6400\n", few, many);
  assert_true(many < 6 * 12.7 * 2); /* two searches or insertions, 2 ln n deep, with room for bad luck */
  assert_true(many < 3 * few);      /* a walk would cost 64 times as much */
}

static void a_sorted_sequence_does_not_unbalance_the_tree(void **state) {
  (void)state;
  enum { NODES = 20000 };
  static struct span spans[NODES];
  struct spantree tree = {0};
  memset(spans, 0, sizeof(spans));
  for (size_t i = 0; i < NODES; i++) {
    span_set_range(&spans[i], 4 * MIB + i * 200 * PAGE_BYTES, 128);
    spantree_insert(&tree, &spans[i]);
  }
  spantree_verify(&tree);
  assert_true(tree.comparisons < (uint64_t)NODES * 40);
  for (size_t i = 0; i < NODES; i += 2) spantree_remove(&tree, &spans[i]);
  spantree_verify(&tree);
  uint64_t before = tree.comparisons;
  assert_ptr_equal(spantree_find(&tree, 100), &spans[1]); /* the lowest address among equals */
  assert_true(tree.comparisons - before < 60);
  assert_null(spantree_find(&tree, 129));
}

/* ---- real memory ---- */

static bool is_zero(const struct span *span) {
  const uint64_t *words = (const uint64_t *)span->start;
  for (size_t i = 0; i < span_bytes(span) / sizeof(*words); i++) {
    if (words[i] != 0) return false;
  }
  return true;
}

/* Every span is filled before it goes back, so that a needs_zero that lies is seen. */
static void memory_is_zero_where_the_heap_says_so(void **state) {
  (void)state;
  enum { SLOTS = 64 };
  struct span *spans[SLOTS] = {0};
  struct pageheap_hooks hooks = {.now_ns = os_now_ns, .release = os_release};
  size_t clean = 0, dirty = 0;
  assert_int_equal(arena_init(&arena, 64 * MIB), 0);
  pageheap_init(&heap, &arena, &hooks);
  for (size_t step = 0; step < 4000; step++) {
    size_t i = rng_below(&rng, SLOTS);
    if (rng_one_in(&rng, 8)) pageheap_release(&heap, rng_size(&rng, 4 * MIB), 0);
    if (spans[i] != NULL) {
      memset((void *)spans[i]->start, 0xdf, span_bytes(spans[i]));
      pageheap_free(&heap, spans[i]);
      spans[i] = NULL;
      continue;
    }
    spans[i] = pageheap_alloc(&heap, rng_size(&rng, 60), SPAN_IN_USE, true);
    assert_non_null(spans[i]);
    if (spans[i]->needs_zero) {
      dirty++;
    } else {
      assert_true(is_zero(spans[i]));
      clean++;
    }
  }
  pageheap_verify(&heap);
  assert_true(clean > 100 && dirty > 100);
  arena_destroy(&arena);
}

/* ---- threads ---- */

enum { CHURN_THREADS = 2, CHURN_STEPS = 30000, CHURN_SLOTS = 50 };

static uint32_t churning; /* atomic: threads that still allocate */
static uint32_t found;    /* atomic: 1 when who looks meanwhile has met a span */

static int release_nothing(void *start, size_t bytes) {
  (void)start, (void)bytes;
  return 0;
}

/* At least until the other has found something: on a busy machine it may not have begun to look. */
static void *churn(void *argument) {
  struct rng own = {(uintptr_t)argument};
  struct span *spans[CHURN_SLOTS] = {0};
  for (size_t step = 0; step < CHURN_STEPS || atomic_load_relaxed(&found) == 0; step++) {
    size_t i = rng_below(&own, CHURN_SLOTS);
    if (spans[i] != NULL) {
      REQUIRE(arena_span_of(&arena, span_end(spans[i]) - 1) == spans[i], "a span is not found");
      pageheap_free(&heap, spans[i]);
      spans[i] = NULL;
    } else {
      spans[i] = pageheap_alloc(&heap, rng_size(&own, 200), SPAN_IN_USE, true);
    }
    if (rng_one_in(&own, 100)) pageheap_release(&heap, rng_size(&own, MIB), 0);
  }
  for (size_t i = 0; i < CHURN_SLOTS; i++) {
    if (spans[i] != NULL) pageheap_free(&heap, spans[i]);
  }
  atomic_sub_acq_rel(&churning, 1u);
  return NULL;
}

/* Looks up addresses of all sorts meanwhile: the span that stays must be found, the rest must do no harm. */
static void lookups_are_safe_while_others_allocate(void **state) {
  (void)state;
  struct pageheap_hooks hooks = {.now_ns = os_now_ns, .release = release_nothing};
  pthread_t threads[CHURN_THREADS];
  start_heap(&hooks, MODEL_START, MODEL_BYTES);
  struct span *staying = pageheap_alloc(&heap, 7, SPAN_IN_USE, true);
  atomic_store_relaxed(&churning, (uint32_t)CHURN_THREADS);
  atomic_store_relaxed(&found, 0u);
  for (size_t i = 0; i < CHURN_THREADS; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(rng_next(&rng) | 1)), 0);
  }
  while (atomic_load_acquire(&churning) > 0) {
    uintptr_t address = arena.start - MIB + rng_below(&rng, MODEL_BYTES + 2 * MIB);
    if (arena_span_of(&arena, address) != NULL) atomic_store_relaxed(&found, 1u);
    REQUIRE(arena_span_of(&arena, staying->start + rng_below(&rng, span_bytes(staying))) == staying, "lost");
  }
  for (size_t i = 0; i < CHURN_THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  pageheap_free(&heap, staying);
  pageheap_verify(&heap);
  assert_int_equal(heap.free.count, 1);
  arena_destroy(&arena);
}

int main(int argc, char **argv) {
  if (argc > 1) setenv("MIDDEN_TEST_SEED", argv[1], 1);
  os_init();
  rng = test_start("test_pageheap");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_steps_match_the_model),
      cmocka_unit_test(random_steps_match_the_model_with_large_os_pages),
      cmocka_unit_test(senseless_requests_are_refused),
      cmocka_unit_test(growth_builds_on_the_free_tail),
      cmocka_unit_test(reclaiming_comes_before_growing),
      cmocka_unit_test(reserving_touches_nothing),
      cmocka_unit_test(fresh_spans_count_as_swept),
      cmocka_unit_test(merging_remembers_the_top),
      cmocka_unit_test(residency_is_read_where_it_is_in_doubt),
      cmocka_unit_test(misuse_stops_the_process),
      cmocka_unit_test(no_memory_is_survived_at_every_call),
      cmocka_unit_test(without_structures_only_exact_fits_are_served),
      cmocka_unit_test(a_large_fit_costs_the_logarithm_of_the_spans),
      cmocka_unit_test(a_sorted_sequence_does_not_unbalance_the_tree),
      cmocka_unit_test(memory_is_zero_where_the_heap_says_so),
      cmocka_unit_test(lookups_are_safe_while_others_allocate),
  };
  return test_run_group(tests);
}
