/* The scavenger and the page heap's releasing by chunks, against a model that keeps one entry per page.
 *
 * Addresses, clocks and the system are the test's own.  For each slice the model says which chunk must go and which of
 * its pages, by looking at all of them; for each walk to the end it says what may be left.  Part of the arena counts as
 * huge pages, where the machine has such.
 *
 * MIDDEN_TEST_SEED repeats a run; MIDDEN_TEST_STEPS sets its length. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bits.h"
#include "gc/scavenger.h"
#include "meta/persist.h"
#include "os/os.h"
#include "page/arena.h"
#include "page/chunks.h"
#include "page/pageheap.h"
#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)
#define MODEL_BYTES (96 * MIB)
#define MODEL_START ((uintptr_t)1 << 46)
#define SECOND_NS ((uint64_t)1000 * 1000 * 1000)
#define RELEASE_NS_PER_PAGE 400

enum { MODEL_PAGES = 96 << (20 - PAGE_SHIFT), MODEL_CHUNKS = 48, STEPS = 6000, LIVE_MAX = 4096 };

/* ---- the model and the system ---- */

static struct arena arena;
static struct pageheap heap;
static struct rng rng;
static uint64_t clock_ns, cpu_ns;
static struct span *owner[MODEL_PAGES];
static uint8_t residency[MODEL_PAGES]; /* of free pages */
static uint64_t chunk_freed_ns[MODEL_CHUNKS];
static struct span *live[LIVE_MAX];
static size_t live_count, model_used;
static bool release_fails;
static size_t most_tables, huge_pages; /* seen in a test */

static uint64_t fake_now_ns(void) { return clock_ns; }
static uint64_t fake_cpu_ns(void) { return cpu_ns; }

static int fake_release(void *start, size_t bytes) {
  size_t first = arena_page_of(&arena, (uintptr_t)start), count = bytes / PAGE_BYTES;
  REQUIRE(lock_is_held_by_me(&heap.lock), "release without the lock");
  REQUIRE(bytes > 0 && bytes <= CHUNK_BYTES && is_aligned((uintptr_t)start | bytes, heap.release_unit_bytes),
          "release of %zu bytes", bytes);
  for (size_t i = first; i < first + count; i++) REQUIRE(i < model_used && owner[i] == NULL, "page %zu is in use", i);
  cpu_ns += count * RELEASE_NS_PER_PAGE;
  return release_fails ? -ENOMEM : 0;
}

static int fake_release_tables(void *start, size_t bytes) {
  const uint64_t *words = start;
  REQUIRE(is_aligned((uintptr_t)start | bytes, os_page_bytes()) && bytes > 0, "tables of %zu bytes", bytes);
  for (size_t i = 0; i < bytes / 8; i++) REQUIRE(words[i] == 0, "mark bits are not zero");
  return 0;
}

struct chunk_facts {
  size_t in_use, idle;
};

static size_t chunk_end(size_t chunk) { return min_size((chunk + 1) * CHUNK_PAGES, model_used); }

static struct chunk_facts look_at(size_t chunk) {
  struct chunk_facts facts = {0};
  for (size_t i = chunk * CHUNK_PAGES; i < chunk_end(chunk); i++) {
    facts.in_use += owner[i] != NULL;
    facts.idle += owner[i] == NULL && residency[i] == PAGE_RESIDENT;
  }
  return facts;
}

static size_t model_resident_bytes(void) {
  size_t pages = 0;
  for (size_t i = 0; i < model_used; i++) pages += owner[i] != NULL || residency[i] == PAGE_RESIDENT;
  return pages * PAGE_BYTES;
}

static bool model_may_go(size_t chunk, struct chunk_facts facts) {
  if (facts.idle == 0) return false;
  return !arena_chunk_is_huge(&arena, chunk) || facts.in_use <= CHUNK_PAGES / 4;
}

/* The chunk that the rule names, or SIZE_MAX. */
static size_t model_choice(size_t most_bytes, uint64_t freed_by_ns) {
  size_t best = SIZE_MAX;
  bool best_is_free = false;
  for (size_t i = 0; i * CHUNK_PAGES < model_used; i++) {
    struct chunk_facts facts = look_at(i);
    if (!model_may_go(i, facts) || chunk_freed_ns[i] > freed_by_ns) continue;
    if (arena_chunk_is_huge(&arena, i) && facts.idle * PAGE_BYTES > most_bytes) continue;
    bool is_free = facts.in_use == 0;
    bool wins = best == SIZE_MAX || (is_free && !best_is_free) ||
                (is_free == best_is_free && chunk_freed_ns[i] <= chunk_freed_ns[best]);
    if (!wins) continue;
    best = i;
    best_is_free = is_free;
  }
  return best;
}

/* ---- checks ---- */

static void check_accounts(void) {
  struct pageheap_stats stats;
  size_t released = 0, fresh = 0, idle = 0, tables = 0;
  pageheap_verify(&heap);
  pageheap_read_stats(&heap, &stats);
  for (size_t i = 0; i < model_used; i++) {
    if (owner[i] != NULL) continue;
    REQUIRE(arena.residency[i] == residency[i], "residency of page %zu is %u", i, arena.residency[i]);
    idle += PAGE_BYTES;
    released += residency[i] == PAGE_RELEASED ? PAGE_BYTES : 0;
    fresh += residency[i] == PAGE_FRESH ? PAGE_BYTES : 0;
  }
  for (size_t i = 0; i * CHUNK_PAGES < model_used; i++) {
    tables += arena.chunks[i].tables_released ? 2 * CHUNK_PAGES * MARK_BITS_PAGE_BYTES : 0;
  }
  REQUIRE(stats.idle_bytes == idle && stats.released_bytes == released && stats.fresh_bytes == fresh,
          "idle %zu, released %zu, fresh %zu", stats.idle_bytes, stats.released_bytes, stats.fresh_bytes);
  most_tables = max_size(most_tables, tables);
  REQUIRE(stats.tables_released_bytes == tables, "tables: %zu, found %zu", stats.tables_released_bytes, tables);
  size_t committed = 0;
  for (size_t i = 0; i < ARENA_TABLES; i++) committed += arena.tables[i].committed_bytes;
  REQUIRE(persist_bytes(PERSIST_TABLE) + persist_bytes(PERSIST_BITS) == committed - tables,
          "metadata of tables is counted wrong");
}

/* ---- steps of the program ---- */

static void set_marks(const struct span *span, uint64_t value) {
  size_t first = arena_page_of(&arena, span->start) * (MARK_BITS_PAGE_BYTES / 8);
  arena.mark_bits[0][first] = arena.mark_bits[1][first] = value;
}

static void step_alloc(size_t pages) {
  if (live_count == LIVE_MAX) return;
  struct span *span = pageheap_alloc(&heap, pages, rng_one_in(&rng, 20) ? SPAN_STACK : SPAN_IN_USE, true);
  size_t used = arena_page_of(&arena, arena.used);
  for (size_t i = model_used; i < used; i++) residency[i] = PAGE_FRESH;
  model_used = used;
  if (span == NULL) return;
  size_t first = arena_page_of(&arena, span->start);
  for (size_t i = first; i < first + pages; i++) {
    REQUIRE(owner[i] == NULL, "page %zu twice", i);
    owner[i] = span;
  }
  set_marks(span, 1);
  live[live_count++] = span;
}

static void step_free(size_t index) {
  struct span *span = live[index];
  size_t first = arena_page_of(&arena, span->start), count = span->page_count;
  live[index] = live[--live_count];
  set_marks(span, 0);
  for (size_t i = first; i < first + count; i++) {
    owner[i] = NULL;
    residency[i] = PAGE_RESIDENT;
    chunk_freed_ns[i / CHUNK_PAGES] = clock_ns;
  }
  pageheap_free(&heap, span);
}

static size_t random_pages(void) { return rng_one_in(&rng, 6) ? rng_size(&rng, 1200) : rng_size(&rng, 30); }

static void program_step(bool shrinking) {
  clock_ns += rng_size(&rng, 1 << 22);
  if (live_count > 0 && rng_below(&rng, 100) < (shrinking ? 75u : 30u)) {
    step_free(rng_below(&rng, live_count));
  } else {
    step_alloc(random_pages());
  }
}

static void begin(size_t release_unit_bytes) {
  static const struct pageheap_hooks hooks = {
      .now_ns = fake_now_ns, .release = fake_release, .release_tables = fake_release_tables};
  memset(owner, 0, sizeof owner);
  memset(chunk_freed_ns, 0, sizeof chunk_freed_ns);
  live_count = model_used = most_tables = huge_pages = 0;
  clock_ns = cpu_ns = 100 * SECOND_NS;
  release_fails = false;
  assert_int_equal(arena_init_fake(&arena, MODEL_START, MODEL_BYTES), 0);
  arena.huge_pages = true;
  pageheap_init(&heap, &arena, &hooks);
  heap.release_unit_bytes = release_unit_bytes;
}

static void end(void) {
  while (live_count > 0) step_free(live_count - 1);
  check_accounts();
  arena_destroy(&arena);
}

/* ---- slices ---- */

/* Which pages the slice must take: of the named chunk the highest resident ones.  Tells the model, returns their bytes. */
static size_t model_take(size_t chunk, size_t most_bytes) {
  size_t taken = 0;
  for (size_t i = chunk_end(chunk); i > chunk * CHUNK_PAGES && (taken + 1) * PAGE_BYTES <= most_bytes; i--) {
    if (owner[i - 1] != NULL || residency[i - 1] != PAGE_RESIDENT) continue;
    residency[i - 1] = PAGE_RELEASED;
    taken++;
  }
  return taken * PAGE_BYTES;
}

static void step_slice(void) {
  size_t most_bytes = rng_one_in(&rng, 3) ? SIZE_MAX : rng_size(&rng, 8 * MIB);
  uint64_t freed_by_ns = clock_ns - rng_size(&rng, 1 << 26);
  size_t chunk = model_choice(most_bytes, freed_by_ns);
  release_fails = rng_one_in(&rng, 12);
  struct pageheap_scavenged slice = pageheap_scavenge(&heap, most_bytes, freed_by_ns);
  if (chunk == SIZE_MAX || most_bytes < PAGE_BYTES) {
    REQUIRE(slice.released_bytes == 0 && slice.error == 0, "released %zu bytes", slice.released_bytes);
  } else if (release_fails) {
    REQUIRE(slice.released_bytes == 0 && slice.error == -ENOMEM, "a refusal went unnoticed");
  } else {
    bool is_whole = look_at(chunk).in_use == 0 && arena_chunk_is_huge(&arena, chunk);
    size_t expected = model_take(chunk, most_bytes);
    REQUIRE(slice.released_bytes == expected, "released %zu bytes, not %zu", slice.released_bytes, expected);
    REQUIRE(slice.whole_huge_page == is_whole, "whole huge page: %d", slice.whole_huge_page);
    huge_pages += is_whole;
  }
  release_fails = false;
}

static void slices_take_what_the_rule_names(void **state) {
  (void)state;
  begin(PAGE_BYTES);
  for (size_t step = 0; step < test_steps(STEPS); step++) {
    program_step(step / 700 % 2 == 1);
    if (rng_one_in(&rng, 6)) step_slice();
    if (step % 64 == 0) check_accounts();
  }
  end();
  bool has_huge_pages = os_huge_page_bytes() == CHUNK_BYTES;
  REQUIRE(!has_huge_pages || (huge_pages > 0 && most_tables > 0), "the test does not reach what it is for");
}

/* Where OS pages are larger than ours: nothing is lost, no chunk is asked for ever again, what is left is in no whole OS
 * page. */
static void large_os_pages_go_whole(void **state) {
  (void)state;
  begin(8 * PAGE_BYTES);
  for (size_t step = 0; step < test_steps(STEPS) / 3; step++) {
    program_step(step / 300 % 2 == 1);
    if (!rng_one_in(&rng, 40)) continue;
    size_t slices = 0;
    while (true) {
      struct pageheap_scavenged slice = pageheap_scavenge(&heap, SIZE_MAX, UINT64_MAX);
      for (size_t i = 0; i < model_used; i++) {
        if (owner[i] == NULL) residency[i] = arena.residency[i];
      }
      size_t stuck = 0;
      for (size_t i = 0; i * CHUNK_PAGES < model_used; i++) stuck += arena.chunks[i].stuck;
      REQUIRE(++slices < 8 * MODEL_CHUNKS, "it does not end");
      if (slice.released_bytes == 0 && model_choice(SIZE_MAX, UINT64_MAX) == SIZE_MAX) break;
      if (slice.released_bytes == 0 && slices > MODEL_CHUNKS + stuck) break;
    }
    for (size_t i = 0; i + 8 <= model_used; i += 8) {
      size_t idle = 0;
      for (size_t k = i; k < i + 8; k++) idle += owner[k] == NULL && residency[k] == PAGE_RESIDENT;
      bool whole = true;
      for (size_t k = i; k < i + 8; k++) whole = whole && owner[k] == NULL;
      REQUIRE(!whole || idle == 0 || !model_may_go(i / CHUNK_PAGES, look_at(i / CHUNK_PAGES)), "page %zu stayed", i);
    }
    check_accounts();
  }
  end();
}

/* ---- the scavenger ---- */

static struct scavenger scavenger;
static uint64_t reported_bytes;

static void hear_report(const struct scavenger_report *report) {
  REQUIRE(report->released_bytes > 0 || report->refused, "an episode of nothing");
  reported_bytes += report->released_bytes;
}

/* The heap's own residency, taken over where the model does not predict single pages. */
static void follow_residency(void) {
  for (size_t i = 0; i < model_used; i++) {
    if (owner[i] != NULL) continue;
    REQUIRE(
        arena.residency[i] == residency[i] || (residency[i] == PAGE_RESIDENT && arena.residency[i] == PAGE_RELEASED),
        "page %zu changed from %u to %u", i, residency[i], arena.residency[i]);
    residency[i] = arena.residency[i];
  }
}

/* A page of a chunk where releasing is allowed, whose span has been unused for the time. */
static bool has_old_page(uint64_t unused_by_ns) {
  for (size_t i = 0; i < model_used; i++) {
    if (owner[i] != NULL || residency[i] != PAGE_RESIDENT) continue;
    size_t first = i;
    while (first > 0 && owner[first - 1] == NULL) first--;
    if (arena.spans[first]->unused_since_ns > unused_by_ns) continue;
    if (model_may_go(i / CHUNK_PAGES, look_at(i / CHUNK_PAGES))) return true;
  }
  return false;
}

/* Steps until the scavenger wants to sleep or `until_ns`; checks each slice's size and the pace. */
static uint64_t run_scavenger(size_t growth_bytes, uint64_t until_ns) {
  uint64_t start_ns = clock_ns, start_cpu_ns = cpu_ns;
  for (;;) {
    struct pageheap_stats pages;
    pageheap_read_stats(&heap, &pages);
    size_t before = model_resident_bytes();
    size_t old_before = scavenger.in_episode ? scavenger.episode.old_bytes : 0;
    uint64_t wait_ns = scavenger_step(&scavenger, growth_bytes, clock_ns);
    follow_residency();
    size_t after = model_resident_bytes(), goal = scavenger.goal_bytes;
    REQUIRE(before - after <= CHUNK_BYTES, "a slice of %zu bytes", before - after);
    bool by_age = scavenger.in_episode && scavenger.episode.old_bytes != old_before;
    if (!by_age && after < before) REQUIRE(after >= goal, "%zu resident, the goal is %zu", after, goal);
    /* All slices but the last have been rested for. */
    uint64_t slice_ns = CHUNK_PAGES * RELEASE_NS_PER_PAGE;
    REQUIRE((cpu_ns - start_cpu_ns) <= (clock_ns - start_ns) / SCAVENGER_REST + slice_ns, "too fast");
    if (wait_ns == UINT64_MAX || wait_ns >= until_ns - clock_ns) return wait_ns;
    clock_ns += wait_ns;
  }
}

static void check_nothing_left_by_goal(size_t growth_bytes) {
  struct pageheap_stats pages;
  pageheap_read_stats(&heap, &pages);
  size_t resident = model_resident_bytes(), goal = scavenger_goal(&scavenger, &pages, growth_bytes);
  if (resident <= goal) return;
  size_t left = model_choice(resident - goal, clock_ns - SCAVENGER_GRACE_NS);
  REQUIRE(left == SIZE_MAX || resident - goal < PAGE_BYTES, "chunk %zu is left, %zu above the goal", left,
          resident - goal);
}

static void the_goal_is_reached_at_the_pace(void **state) {
  (void)state;
  begin(PAGE_BYTES);
  scavenger_init(&scavenger, &heap, fake_cpu_ns, UINT64_MAX);
  scavenger.report = hear_report;
  reported_bytes = 0;
  REQUIRE(run_scavenger(0, UINT64_MAX) == UINT64_MAX, "it runs before the first cycle");
  for (size_t step = 0; step < test_steps(STEPS); step++) {
    program_step(step / 700 % 2 == 1);
    if (!rng_one_in(&rng, 60)) continue;
    size_t growth = rng_size(&rng, 16 * MIB);
    scavenger_cycle_ended(&scavenger, rng_size(&rng, MODEL_BYTES), rng_one_in(&rng, 3));
    bool to_the_end = rng_one_in(&rng, 2);
    release_fails = rng_one_in(&rng, 20);
    if (release_fails) {
      run_scavenger(growth, clock_ns + SCAVENGER_REFUSED_NS / 2);
      release_fails = false;
    }
    uint64_t wait_ns = run_scavenger(growth, to_the_end ? UINT64_MAX : clock_ns + rng_size(&rng, SECOND_NS));
    if (to_the_end) {
      REQUIRE(wait_ns == UINT64_MAX && !scavenger.in_episode, "it does not settle");
      check_nothing_left_by_goal(growth);
      REQUIRE(reported_bytes == scavenger.released_bytes, "reports do not add up");
    }
    check_accounts();
  }
  end();
}

static void what_is_old_goes_whatever_the_goal(void **state) {
  (void)state;
  const uint64_t after_ns = 300 * SECOND_NS;
  begin(PAGE_BYTES);
  clock_ns = SECOND_NS; /* the clock may stand below the limit of age at first */
  scavenger_init(&scavenger, &heap, fake_cpu_ns, after_ns);
  for (size_t step = 0; step < test_steps(STEPS) / 2; step++) {
    program_step(step / 500 % 2 == 1);
    if (!rng_one_in(&rng, 50)) continue;
    run_scavenger(0, clock_ns + rng_size(&rng, 200 * SECOND_NS));
    if (rng_one_in(&rng, 2)) continue;
    while (run_scavenger(0, clock_ns + 10000 * SECOND_NS) != UINT64_MAX) clock_ns += 10000 * SECOND_NS;
    REQUIRE(!has_old_page(clock_ns), "something idle is left when it sleeps for good");
    check_accounts();
  }
  end();
}

/* What an earlier cycle needed stays for a while; not where the program is idle. */
static void a_breathing_heap_keeps_its_breath(void **state) {
  (void)state;
  begin(PAGE_BYTES);
  scavenger_init(&scavenger, &heap, fake_cpu_ns, UINT64_MAX);
  step_alloc(20 * MIB / PAGE_BYTES);
  step_free(0);
  clock_ns += SECOND_NS;
  scavenger_cycle_ended(&scavenger, 20 * MIB, false);
  assert_int_equal(scavenger_step(&scavenger, 0, clock_ns), UINT64_MAX);
  scavenger_cycle_ended(&scavenger, 5 * MIB, false);
  uint64_t wait_ns = scavenger_step(&scavenger, 0, clock_ns);
  assert_int_equal(wait_ns, SCAVENGER_HOLD_NS); /* nothing before that */
  assert_int_equal(scavenger.released_bytes, 0);
  clock_ns += wait_ns;
  run_scavenger(0, UINT64_MAX);
  assert_true(scavenger.released_bytes >= 14 * MIB);
  size_t after_first = scavenger.released_bytes;
  scavenger_cycle_ended(&scavenger, 5 * MIB, false);
  scavenger_cycle_ended(&scavenger, 2 * MIB, true);
  run_scavenger(0, clock_ns + SCAVENGER_HOLD_NS / 2);
  assert_true(scavenger.released_bytes >= after_first + 3 * MIB);
  end();
}

/* The limit in the allocating path: what is idle goes first, then the collector is told; the allocation succeeds. */
static size_t pressed;
static void fake_press(void) { pressed++; }
static size_t fake_metadata_bytes(void) { return MIB; }

static void the_limit_releases_before_it_presses(void **state) {
  (void)state;
  begin(PAGE_BYTES);
  heap.hooks.press = fake_press;
  heap.hooks.metadata_bytes = fake_metadata_bytes;
  pressed = 0;
  step_alloc(10 * MIB / PAGE_BYTES);
  step_alloc(1);
  pageheap_set_limit(&heap, 14 * MIB);
  step_free(0); /* 10 MiB idle */
  assert_int_equal(pageheap_held_bytes(&heap), 11 * MIB + PAGE_BYTES);
  struct span *span = pageheap_alloc(&heap, 12 * MIB / PAGE_BYTES, SPAN_IN_USE, true);
  assert_non_null(span);
  assert_int_equal(pressed, 0);
  assert_int_equal(pageheap_held_bytes(&heap), 14 * MIB);
  pageheap_verify(&heap);
  struct span *more = pageheap_alloc(&heap, MIB / PAGE_BYTES, SPAN_IN_USE, true);
  assert_non_null(more); /* takes the rest of what was idle, or passes the limit */
  struct span *last = pageheap_alloc(&heap, 2 * MIB / PAGE_BYTES, SPAN_IN_USE, true);
  assert_non_null(last);
  assert_true(pressed > 0);
  pageheap_free(&heap, span);
  pageheap_free(&heap, more);
  pageheap_free(&heap, last);
  pageheap_verify(&heap);
  step_free(0);
  arena_destroy(&arena);
}

/* Who gives back all at once, or for the limit, had left the mark bits, 1.6% of it, for which nobody came any more. */
static void what_goes_at_once_takes_its_mark_bits_along(void **state) {
  (void)state;
  enum { CHUNKS = 16, LEAST = CHUNKS / 2 };
  struct pageheap_stats stats;
  begin(PAGE_BYTES);
  step_alloc(CHUNKS * CHUNK_PAGES);
  step_alloc(1);
  step_free(0);
  clock_ns++;
  assert_int_equal(pageheap_release(&heap, SIZE_MAX, 0), CHUNKS * CHUNK_BYTES);
  pageheap_read_stats(&heap, &stats);
  assert_true(stats.tables_released_bytes >= LEAST * 2 * CHUNK_PAGES * MARK_BITS_PAGE_BYTES);
  pageheap_verify(&heap);
  step_alloc(CHUNKS * CHUNK_PAGES); /* they come back */
  pageheap_read_stats(&heap, &stats);
  assert_int_equal(stats.tables_released_bytes, 0);
  end();
}

int main(void) {
  os_init();
  rng = test_start("model/scavenger");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(slices_take_what_the_rule_names),
      cmocka_unit_test(large_os_pages_go_whole),
      cmocka_unit_test(the_goal_is_reached_at_the_pace),
      cmocka_unit_test(what_is_old_goes_whatever_the_goal),
      cmocka_unit_test(a_breathing_heap_keeps_its_breath),
      cmocka_unit_test(the_limit_releases_before_it_presses),
      cmocka_unit_test(what_goes_at_once_takes_its_mark_bits_along),
  };
  return test_run_group(tests);
}
