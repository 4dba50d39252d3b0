/* The limiter and the pacer under a memory limit, on a simulated processor: no more than half for the collector over any
 * stretch, and the limit is honoured whenever that allows it.  And the watch for an idle program, on a fake clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/account.h"
#include "gc/idle.h"
#include "gc/limiter.h"
#include "gc/pacer.h"
#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)
#define MS_NS ((uint64_t)1000 * 1000)

static struct rng rng;

/* ---- the bucket ---- */

static void a_full_bucket_yields_until_the_program_had_its_share(void **state) {
  (void)state;
  struct limiter limiter;
  uint64_t process_ns = 5000 * MS_NS;
  limiter_init(&limiter, process_ns);
  assert_true(limiter_allows(&limiter, process_ns));
  limiter_charge(&limiter, LIMITER_CAPACITY_NS - 1);
  process_ns += LIMITER_CAPACITY_NS - 1; /* all of the process's time was the collector's */
  assert_true(limiter_allows(&limiter, process_ns));
  limiter_charge(&limiter, 30 * MS_NS);
  process_ns += 30 * MS_NS;
  assert_false(limiter_allows(&limiter, process_ns));
  assert_int_equal(limiter.yield_count, 1);
  process_ns += 30 * MS_NS - 1;
  assert_false(limiter_allows(&limiter, process_ns));
  process_ns += 1;
  assert_true(limiter_allows(&limiter, process_ns)); /* back at the mark less 1 ns */
  process_ns += 10 * LIMITER_CAPACITY_NS;
  assert_true(limiter_allows(&limiter, process_ns));
  assert_int_equal(limiter.level_ns, 0); /* no credit for idle hours */
}

/* Time that was charged before the process's clock shows it is not taken for the program's later. */
static void charges_ahead_of_the_clock_are_kept(void **state) {
  (void)state;
  struct limiter limiter;
  limiter_init(&limiter, 0);
  limiter_charge(&limiter, 2 * LIMITER_CAPACITY_NS);
  assert_false(limiter_allows(&limiter, LIMITER_CAPACITY_NS / 2));
  assert_false(limiter_allows(&limiter, 2 * LIMITER_CAPACITY_NS));
  assert_int_equal(limiter.level_ns, 2 * LIMITER_CAPACITY_NS);
  assert_false(limiter_allows(&limiter, 2 * LIMITER_CAPACITY_NS + 1)); /* what follows is the program's */
  assert_int_equal(limiter.level_ns, 2 * LIMITER_CAPACITY_NS - 1);
  assert_false(limiter_allows(&limiter, 0)); /* a clock that stands, or runs backwards */
  assert_int_equal(limiter.level_ns, 2 * LIMITER_CAPACITY_NS - 1);
}

/* ---- a simulated program ---- */

struct program {
  size_t live_bytes;
  double bytes_per_ns; /* allocation while it runs */
  double mark_ns_per_byte;
};

struct outcome {
  double share;       /* of the collector, over everything */
  double worst_share; /* over any 2 s stretch, checked at each cycle */
  size_t peak_bytes;
  uint64_t cycles, yields;
};

/* The collector's rules (gc/collector.c): a cycle at the goal; where only the limit asks for it, if the limiter allows it,
 * else a little later again. */
static struct outcome simulate(const struct program *program, size_t limit_bytes, uint64_t until_ns) {
  const struct pacer pacer = {.percent = 100,
                              .min_heap_bytes = 4 * MIB,
                              .initial_heap_bytes = 4 * MIB,
                              .memory_limit_bytes = limit_bytes,
                              .max_heap_bytes = SIZE_MAX};
  enum { WINDOW = 4096 };
  static uint64_t window_at[WINDOW], window_gc[WINDOW];
  const struct pacer_footprint footprint = {.fixed_bytes = MIB};
  struct limiter limiter;
  struct outcome outcome = {0};
  uint64_t now_ns = 0, gc_ns = 0;
  size_t heap_bytes = program->live_bytes, trigger = pacer_goal(&pacer, heap_bytes, &footprint);
  limiter_init(&limiter, 0);
  while (now_ns < until_ns) {
    size_t step = trigger > heap_bytes ? trigger - heap_bytes : 0;
    heap_bytes += step;
    now_ns += (uint64_t)((double)step / program->bytes_per_ns);
    if (heap_bytes > outcome.peak_bytes) outcome.peak_bytes = heap_bytes;
    bool for_growth = heap_bytes >= pacer_unlimited_goal(&pacer, program->live_bytes);
    if (!for_growth && !limiter_allows(&limiter, now_ns)) {
      trigger = heap_bytes + pacer_headroom(heap_bytes);
      continue;
    }
    uint64_t cost_ns = (uint64_t)((double)program->live_bytes * program->mark_ns_per_byte *
                                  (0.8 + 0.4 * (double)rng_below(&rng, 1000) / 1000));
    now_ns += cost_ns;
    gc_ns += cost_ns;
    limiter_charge(&limiter, cost_ns);
    heap_bytes = program->live_bytes;
    trigger = pacer_goal(&pacer, program->live_bytes, &footprint);
    size_t slot = outcome.cycles % WINDOW;
    window_at[slot] = now_ns;
    window_gc[slot] = gc_ns;
    for (uint64_t back = 1; back < WINDOW && back < outcome.cycles; back++) {
      size_t old = (outcome.cycles - back) % WINDOW;
      if (now_ns - window_at[old] < 2000 * MS_NS) continue;
      double share = (double)(gc_ns - window_gc[old]) / (double)(now_ns - window_at[old]);
      if (share > outcome.worst_share) outcome.worst_share = share;
      break;
    }
    outcome.cycles++;
  }
  outcome.share = (double)gc_ns / (double)now_ns;
  outcome.yields = limiter.yield_count;
  return outcome;
}

static void a_heap_that_fits_stays_below_the_limit(void **state) {
  (void)state;
  for (int i = 0; i < 200; i++) {
    size_t limit = (16 + rng_below(&rng, 500)) * MIB;
    struct program program = {.live_bytes = limit / 100 * (10 + rng_below(&rng, 80)), .mark_ns_per_byte = 0.5};
    /* As fast as it can allocate and leave the collector less than half. */
    size_t room = limit - limit / 64 - MIB - program.live_bytes;
    const struct pacer grows = {.percent = 100, .min_heap_bytes = 4 * MIB};
    room = room < pacer_unlimited_goal(&grows, program.live_bytes) - program.live_bytes
               ? room
               : pacer_unlimited_goal(&grows, program.live_bytes) - program.live_bytes;
    program.bytes_per_ns = 0.7 * (double)room / ((double)program.live_bytes * program.mark_ns_per_byte * 1.2);
    struct outcome outcome = simulate(&program, limit, 20000 * MS_NS);
    REQUIRE(outcome.yields == 0, "%zu of %zu: %zu yields", program.live_bytes, limit, (size_t)outcome.yields);
    REQUIRE(outcome.peak_bytes + MIB <= limit, "peak %zu of %zu", outcome.peak_bytes, limit);
    REQUIRE(outcome.share < 0.5, "share %f", outcome.share);
  }
}

static void no_limit_takes_more_than_half(void **state) {
  (void)state;
  uint64_t yields = 0;
  for (int i = 0; i < 200; i++) {
    struct program program = {.live_bytes = (8 + rng_below(&rng, 200)) * MIB,
                              .bytes_per_ns = 0.01 + (double)rng_below(&rng, 300) / 100,
                              .mark_ns_per_byte = 0.2 + (double)rng_below(&rng, 100) / 50};
    size_t limit = program.live_bytes / 100 * (40 + rng_below(&rng, 80));
    struct outcome outcome = simulate(&program, limit, 30000 * MS_NS);
    /* Growth of 100% may cost more than half by itself where marking is dear: that is not the limit's doing. */
    double by_growth = (double)program.live_bytes * program.mark_ns_per_byte * 1.2;
    double growth_bytes =
        (double)(pacer_unlimited_goal(&(struct pacer){.percent = 100}, program.live_bytes) - program.live_bytes);
    if (by_growth > growth_bytes / program.bytes_per_ns) continue;
    /* Half of the time is the program's, and each growth by as much brings a cycle. */
    double growths = 0.45 * 30000 * MS_NS * program.bytes_per_ns / growth_bytes;
    REQUIRE((double)outcome.cycles + 1 > growths, "%zu cycles in %f growths", (size_t)outcome.cycles, growths);
    REQUIRE(outcome.share < 0.53, "share %f", outcome.share);
    double slack = (double)LIMITER_CAPACITY_NS / 2e9 + by_growth / 2e9;
    REQUIRE(outcome.worst_share < 0.5 + slack, "share %f over a stretch", outcome.worst_share);
    yields += outcome.yields;
  }
  assert_true(yields > 0);
}

/* ---- the idle watch ---- */

static uint64_t wait_ns;

static enum idle_action look(struct idle_watch *idle, uint32_t *watch, uint64_t collections, size_t live,
                             uint64_t now) {
  struct idle_view view = {.collections = collections, .marked_bytes = 100 * MIB, .live_bytes = live, .now_ns = now};
  return idle_step(idle, watch, &view, &wait_ns);
}

static void only_silence_counts_as_idle(void **state) {
  (void)state;
  struct idle_watch idle = {.after_ns = 1000};
  uint32_t watch = ACCOUNT_WATCH_NONE;
  assert_int_equal(look(&idle, &watch, 1, 0, 10), IDLE_LOOK_LATER);
  assert_int_equal(wait_ns, 1000);
  assert_int_equal(watch, ACCOUNT_WATCH_LOOK);
  assert_int_equal(look(&idle, &watch, 1, 0, 500), IDLE_LOOK_LATER); /* a poke for something else */
  assert_int_equal(wait_ns, 510);
  watch = ACCOUNT_WATCH_NONE; /* the program allocates */
  assert_int_equal(look(&idle, &watch, 1, 0, 1010), IDLE_LOOK_LATER);
  assert_int_equal(wait_ns, 1000);
  assert_int_equal(look(&idle, &watch, 1, 0, 2010), IDLE_COLLECT); /* collections came since the last rest */
  assert_int_equal(wait_ns, UINT64_MAX);
  assert_int_equal(watch, ACCOUNT_WATCH_WAKE);
  assert_int_equal(look(&idle, &watch, 9, 0, 9999), IDLE_REST); /* nothing happens until the program allocates */
}

static void who_waits_for_a_collection_is_not_idle(void **state) {
  (void)state;
  struct idle_watch idle = {.after_ns = 1000};
  uint32_t watch = ACCOUNT_WATCH_LOOK;
  struct idle_view view = {.collections = 1, .collected_ns = 5000, .now_ns = 5000};
  assert_int_equal(idle_step(&idle, &watch, &view, &wait_ns), IDLE_LOOK_LATER); /* it runs still */
  assert_int_equal(wait_ns, 1000);
  view = (struct idle_view){.collections = 2, .collected_ns = 5500, .now_ns = 6000};
  assert_int_equal(idle_step(&idle, &watch, &view, &wait_ns), IDLE_LOOK_LATER);
  assert_int_equal(wait_ns, 500);
  assert_int_equal(watch, ACCOUNT_WATCH_LOOK);
  view.now_ns = 6500;
  assert_int_equal(idle_step(&idle, &watch, &view, &wait_ns), IDLE_COLLECT);
}

static void little_is_not_worth_a_collection(void **state) {
  (void)state;
  struct idle_watch idle = {.after_ns = 1000, .collections = 7};
  for (size_t mib = 100; mib < 110; mib++) {
    uint32_t watch = ACCOUNT_WATCH_LOOK;
    idle.look_ns = 0;
    assert_int_equal(look(&idle, &watch, 7, mib * MIB, 5000), mib < 102 ? IDLE_REST : IDLE_COLLECT);
    assert_int_equal(watch, ACCOUNT_WATCH_WAKE);
  }
  uint32_t watch = ACCOUNT_WATCH_LOOK;
  idle.look_ns = 0;
  assert_int_equal(look(&idle, &watch, 8, 0, 5000), IDLE_COLLECT);
}

int main(void) {
  rng = test_start("unit/limiter");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_full_bucket_yields_until_the_program_had_its_share),
      cmocka_unit_test(charges_ahead_of_the_clock_are_kept),
      cmocka_unit_test(a_heap_that_fits_stays_below_the_limit),
      cmocka_unit_test(no_limit_takes_more_than_half),
      cmocka_unit_test(only_silence_counts_as_idle),
      cmocka_unit_test(who_waits_for_a_collection_is_not_idle),
      cmocka_unit_test(little_is_not_worth_a_collection),
  };
  return test_run_group(tests);
}
