/* The pace of the concurrent cycle, figure by figure; test/model/test_pacer_cycle.c has it steer whole programs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/pacer_cycle.h"
#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)

/* Equal, but for what a double cannot hold. */
static void require_about(double value, double expected) {
  REQUIRE(value >= expected * 0.9999 && value <= expected * 1.0001, "%f, not %f", value, expected);
}

static void run_any(struct pacer_cycle *cycle, size_t begin_bytes, size_t allocated_bytes, size_t scanned_bytes,
                    bool was_waited_for) {
  pacer_cycle_begin(cycle, begin_bytes, 2 * begin_bytes);
  const struct pacer_progress end = {.live_bytes = begin_bytes + allocated_bytes, .background_bytes = scanned_bytes};
  pacer_cycle_end(cycle, &end, was_waited_for);
}

/* One cycle from `begin` that allocated and scanned so much, workers alone. */
static void run(struct pacer_cycle *cycle, size_t begin_bytes, size_t allocated_bytes, size_t scanned_bytes) {
  run_any(cycle, begin_bytes, allocated_bytes, scanned_bytes, false);
}

static void run_waited_for(struct pacer_cycle *cycle, size_t allocated_bytes) {
  run_any(cycle, 100 * MIB, allocated_bytes, 64 * MIB - PACER_FIXED_BYTES, true);
}

/* ---- the trigger ---- */

static void without_experience_a_cycle_starts_early(void **state) {
  (void)state;
  struct pacer_cycle cycle = {0};
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 160 * (double)MIB);
  require_about((double)pacer_cycle_trigger(&cycle, 4 * MIB, 0), 2.4 * (double)MIB);
}

static void the_runway_is_the_ratio_times_the_work(void **state) {
  (void)state;
  struct pacer_cycle cycle = {0};
  run(&cycle, 100 * MIB, 20 * MIB, 64 * MIB - PACER_FIXED_BYTES);
  /* 20/64 for each byte, and the next cycle has the same to scan. */
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 180 * (double)MIB);
  /* It grew by 16 MiB: as much again is expected.  The largest ratio counts. */
  run(&cycle, 100 * MIB, 10 * MIB, 80 * MIB - PACER_FIXED_BYTES);
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 170 * (double)MIB);
  run(&cycle, 100 * MIB, 10 * MIB, 64 * MIB - PACER_FIXED_BYTES);
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 180 * (double)MIB);
  for (int i = 0; i < PACER_RECENT_CYCLES - 1; i++) run(&cycle, 100 * MIB, 10 * MIB, 64 * MIB - PACER_FIXED_BYTES);
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 190 * (double)MIB);
  /* One that stopped the world tells how much there is, not how fast. */
  pacer_cycle_stopped(&cycle, 32 * MIB);
  pacer_cycle_stopped(&cycle, 32 * MIB - PACER_FIXED_BYTES);
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 195 * (double)MIB);
}

static void who_waits_for_a_cycle_tells_little(void **state) {
  (void)state;
  struct pacer_cycle cycle = {0};
  run_waited_for(&cycle, 0); /* of what the program does by itself nothing is known */
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 160 * (double)MIB);
  run_waited_for(&cycle, 20 * MIB); /* at least so much */
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 180 * (double)MIB);
  for (int i = 0; i < PACER_RECENT_CYCLES; i++) run_waited_for(&cycle, 0);
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 180 * (double)MIB);
}

static void the_runway_has_bounds(void **state) {
  (void)state;
  struct pacer_cycle cycle = {0};
  run(&cycle, 100 * MIB, 0, 64 * MIB); /* nothing was allocated: an eighth of the work remains */
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 192 * (double)MIB);
  run(&cycle, 100 * MIB, 1000 * MIB, 1 * MIB);
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 160 * (double)MIB);
  cycle = (struct pacer_cycle){0};
  run(&cycle, 100 * MIB, 0, 0); /* and no work: a twentieth of the way, or 4 MiB */
  require_about((double)pacer_cycle_trigger(&cycle, 120 * MIB, 100 * MIB), 119 * (double)MIB);
  require_about((double)pacer_cycle_trigger(&cycle, 2000 * MIB, 1000 * MIB), 1996 * (double)MIB);
}

/* Without pointers the cycle costs what it costs, and as much is allocated in the next one. */
static void without_pointers_the_runway_is_what_a_cycle_took(void **state) {
  (void)state;
  struct pacer_cycle cycle = {0};
  run(&cycle, 100 * MIB, 8 * MIB, 0);
  require_about((double)pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB), 192 * (double)MIB);
}

static void extreme_goals(void **state) {
  (void)state;
  struct pacer_cycle cycle = {0};
  for (int i = 0; i < 3; i++) {
    assert_int_equal(pacer_cycle_trigger(&cycle, SIZE_MAX, 100 * MIB), SIZE_MAX);
    assert_int_equal(pacer_cycle_trigger(&cycle, 100 * MIB, 100 * MIB), 100 * MIB);
    assert_int_equal(pacer_cycle_trigger(&cycle, 10 * MIB, 100 * MIB), 100 * MIB);
    assert_int_equal(pacer_cycle_trigger(&cycle, 0, 0), 0);
    assert_true(pacer_cycle_trigger(&cycle, 1, 0) <= 1);
    size_t far = pacer_cycle_trigger(&cycle, SIZE_MAX - 1, 0);
    assert_true(far >= SIZE_MAX / 2 && far < SIZE_MAX - 1);
    run(&cycle, SIZE_MAX / 4, SIZE_MAX / 4, SIZE_MAX / 4);
  }
  pacer_cycle_stopped(&cycle, SIZE_MAX);
  pacer_cycle_begin(&cycle, SIZE_MAX / 2, SIZE_MAX);
  assert_int_equal(cycle.scan_bytes, SIZE_MAX / 2);
  pacer_cycle_begin(&cycle, SIZE_MAX, MIB);
  assert_int_equal(cycle.target_bytes, SIZE_MAX);
  pacer_cycle_begin(&cycle, 100 * MIB, SIZE_MAX);
  require_about(1 + pacer_cycle_assist_ratio(&cycle), 1);
  pacer_cycle_begin(&cycle, SIZE_MAX, SIZE_MAX);
  pacer_cycle_revise(&cycle, &(struct pacer_progress){SIZE_MAX, SIZE_MAX, SIZE_MAX, 0, 0, 0, 0, 0});
  assert_true(pacer_cycle_assist_ratio(&cycle) <= PACER_ASSIST_RATIO_MAX);
  pacer_cycle_end(&cycle, &(struct pacer_progress){0, SIZE_MAX, SIZE_MAX, UINT64_MAX, 0, SIZE_MAX, 0, 0}, false);
  assert_true(pacer_cycle_trigger(&cycle, 200 * MIB, 100 * MIB) >= 160 * MIB - 1);
}

/* ---- the line ---- */

/* One cycle known that scanned 64 MiB; the next began at 150 of 200 MiB. */
static struct pacer_cycle marking(void) {
  struct pacer_cycle cycle = {0};
  run(&cycle, 100 * MIB, 20 * MIB, 64 * MIB - PACER_FIXED_BYTES);
  pacer_cycle_begin(&cycle, 150 * MIB, 200 * MIB);
  return cycle;
}

static double ratio_at(struct pacer_cycle *cycle, size_t live_mib, size_t done_mib) {
  const struct pacer_progress progress = {.live_bytes = live_mib * MIB, .background_bytes = done_mib * MIB};
  pacer_cycle_revise(cycle, &progress);
  return pacer_cycle_assist_ratio(cycle);
}

static void the_line_leads_to_the_goal(void **state) {
  (void)state;
  struct pacer_cycle cycle = marking();
  require_about(pacer_cycle_assist_ratio(&cycle), 64.0 / 50);
  require_about(ratio_at(&cycle, 150, 32), 32.0 / 50);
  require_about(ratio_at(&cycle, 180, 32), 32.0 / 20);
  require_about(ratio_at(&cycle, 180, 54), 10.0 / 20);
  /* The last thirty-second of both is one. */
  require_about(ratio_at(&cycle, 199, 64), 2.0 / (50.0 / 32));
  require_about(ratio_at(&cycle, 201, 66), 2.0 / (50.0 / 32));
  require_about((double)pacer_cycle_credit_most(&cycle), 4 * (double)MIB);
  /* What assists scanned counts as well. */
  const struct pacer_progress progress = {180 * MIB, 30 * MIB, 24 * MIB, 1, 1, 0, 0, 0};
  pacer_cycle_revise(&cycle, &progress);
  require_about(pacer_cycle_assist_ratio(&cycle), 10.0 / 20);
}

static void more_work_than_expected_moves_the_target(void **state) {
  (void)state;
  struct pacer_cycle cycle = marking();
  /* 150 MiB may have to be scanned, for which 214 MiB of heap are allowed. */
  require_about(ratio_at(&cycle, 170, 70), 80.0 / (200 + 200.0 / 14 - 170));
  require_about(ratio_at(&cycle, 210, 140), 10.0 / (200 + 200.0 / 14 - 210));
  /* A little more work keeps the slope. */
  pacer_cycle_begin(&cycle, 70 * MIB, 120 * MIB);
  require_about(ratio_at(&cycle, 110, 69), 2.0 / (70 + 50.0 * 70 / 64 - 110)); /* 1 MiB is less than the rest */
}

static void a_goal_that_was_passed_moves(void **state) {
  (void)state;
  struct pacer_cycle cycle = marking();
  double beyond = 200 + 200.0 / 14;
  require_about(ratio_at(&cycle, 203, 60), 90 / (beyond - 203));
  require_about(ratio_at(&cycle, 210, 60), 90 / (beyond - 210));
  /* A huge object: a fourteenth from there, and it stands there. */
  require_about(ratio_at(&cycle, 280, 60), 90.0 / 20);
  require_about(ratio_at(&cycle, 290, 70), 80.0 / 10);
  pacer_cycle_begin(&cycle, 280 * MIB, 200 * MIB); /* too late from the start */
  require_about(pacer_cycle_assist_ratio(&cycle), 280.0 / 20);
  pacer_cycle_begin(&cycle, 210 * MIB, 200 * MIB); /* by little */
  require_about(pacer_cycle_assist_ratio(&cycle), 14);
  assert_true(ratio_at(&cycle, 1, 0) <= PACER_ASSIST_RATIO_MAX); /* nonsense */
  pacer_cycle_begin(&cycle, 280 * MIB, 280 * MIB + 1);
  require_about(pacer_cycle_assist_ratio(&cycle), PACER_ASSIST_RATIO_MAX);
}

/* Threads that assisted half of their time would have allocated twice as much; and the quarter with the most counts. */
static void assists_and_bursts_count(void **state) {
  (void)state;
  struct pacer_cycle cycle = marking();
  const struct pacer_progress end = {160 * MIB, 32 * MIB - PACER_FIXED_BYTES, 32 * MIB, 5000, 5000, 0, 0, 0};
  pacer_cycle_end(&cycle, &end, false);
  require_about(cycle.recent[0], 20.0 / 32);
  pacer_cycle_begin(&cycle, 150 * MIB, 200 * MIB);
  ratio_at(&cycle, 151, 16);
  ratio_at(&cycle, 161, 24); /* not yet a quarter */
  ratio_at(&cycle, 171, 32);
  ratio_at(&cycle, 172, 48);
  const struct pacer_progress burst = {173 * MIB, 64 * MIB, 0, 0, 9000, 0, 0, 0};
  pacer_cycle_end(&cycle, &burst, false);
  require_about(cycle.recent[0], 20 / (16 + 1.0 / 64));
  assert_true(pacer_cycle_assist_ratio(&cycle) == 0);
}

/* The runway is what the workers' whole share would need: the threads did what was withheld of it. */
static void what_was_withheld_counts_as_done(void **state) {
  (void)state;
  struct pacer_cycle cycle = marking();
  const struct pacer_progress end = {160 * MIB, 16 * MIB - PACER_FIXED_BYTES, 48 * MIB, 6000, 5000, 16 * MIB, 1000, 0};
  pacer_cycle_end(&cycle, &end, false);
  require_about(cycle.recent[0], 20.0 / 32);
}

/* They would have allocated meanwhile: else the next cycle would begin too late again, and they would rest again. */
static void rests_count(void **state) {
  (void)state;
  struct pacer_cycle cycle = marking();
  const struct pacer_progress end = {160 * MIB, 32 * MIB - PACER_FIXED_BYTES, 32 * MIB, 2000, 5000, 0, 0, 3000};
  pacer_cycle_end(&cycle, &end, false);
  require_about(cycle.recent[0], 20.0 / 32);
}

/* ---- the share ---- */

static struct pacer_share busy_share(unsigned cpus, unsigned markers) {
  struct pacer_share share = {0};
  pacer_share_adjust(&share, cpus, markers, (struct pacer_load){cpus + 1, 0, 0, false});
  return share;
}

static void a_quarter_of_the_processors(void **state) {
  (void)state;
  static const struct {
    unsigned cpus, markers, workers;
    double duty;
  } rows[] = {{0, 0, 1, 0.25}, {1, 4, 1, 0.25}, {2, 4, 1, 0.5},  {3, 4, 1, 0.75}, {4, 4, 1, 1},
              {5, 4, 2, 0.25}, {6, 4, 2, 0.5},  {64, 16, 16, 1}, {64, 4, 4, 1},   {16, 0, 1, 1}};
  for (size_t i = 0; i < TEST_COUNT_OF(rows); i++) {
    struct pacer_share share = busy_share(rows[i].cpus, rows[i].markers);
    REQUIRE(share.workers == rows[i].workers && share.duty == rows[i].duty, "%u processors: %u workers, duty %f",
            rows[i].cpus, share.workers, share.duty);
  }
}

static double cpus_of(const struct pacer_share *share) { return share->workers - 1 + share->duty; }

/* `threads` of the program want a processor each, and so do the workers: each gets the same, if there are too few. */
static double fair_mutator_cpus(const struct pacer_share *share, unsigned cpus, double threads) {
  double wanted = threads + cpus_of(share);
  return wanted <= cpus ? threads : threads * cpus / wanted;
}

static void idle_processors_are_used_and_given_back(void **state) {
  (void)state;
  struct pacer_share share = busy_share(8, 8);
  for (int i = 0; i < 10; i++) pacer_share_adjust(&share, 8, 8, (struct pacer_load){0, 0, 0, false});
  assert_true(cpus_of(&share) >= 7.5 && cpus_of(&share) <= 8);
  for (int i = 0; i < 10; i++) {
    pacer_share_adjust(&share, 8, 8, (struct pacer_load){fair_mutator_cpus(&share, 8, 3), 0, 0, false});
    assert_true(cpus_of(&share) >= 2);
  }
  assert_true(cpus_of(&share) >= 3.9 && cpus_of(&share) <= 5.5);
  for (int i = 0; i < 20; i++)
    pacer_share_adjust(&share, 8, 8, (struct pacer_load){fair_mutator_cpus(&share, 8, 8), 0, 0, false});
  assert_true(cpus_of(&share) == 2);
  for (int i = 0; i < 10; i++) pacer_share_adjust(&share, 8, 3, (struct pacer_load){0, 0, 0, false});
  assert_true(cpus_of(&share) == 3);
  for (int i = 0; i < 20; i++)
    pacer_share_adjust(&share, 8, 3, (struct pacer_load){1000, 0, 0, false}); /* clocks are off */
  assert_true(cpus_of(&share) == 2);
}

static void adjust_often(struct pacer_share *share, double mutator_cpus, double owed_cpus) {
  for (int i = 0; i < 10; i++) pacer_share_adjust(share, 4, 4, (struct pacer_load){mutator_cpus, owed_cpus, 4, false});
}

static void threads_that_fill_the_processors_mark(void **state) {
  (void)state;
  struct pacer_share share = busy_share(4, 4);
  adjust_often(&share, 3.9, 0.6); /* not for as little as this */
  assert_true(cpus_of(&share) == 1);
  adjust_often(&share, 3.9, 1.5);
  assert_true(cpus_of(&share) == 1.0 / 16);
  adjust_often(&share, 3.9, 0.6); /* as they go on */
  assert_true(cpus_of(&share) == 1.0 / 16);
  adjust_often(&share, 3.9, 0.1); /* who owes little cannot be left to it */
  assert_true(cpus_of(&share) == 1);
  adjust_often(&share, 3.9, 1.5);
  assert_true(cpus_of(&share) == 1.0 / 16);
  adjust_often(&share, 3.9, 2.5); /* who owes much is better off with workers */
  assert_true(cpus_of(&share) == 1);
  adjust_often(&share, 3.9, 1.5);
  pacer_share_adjust(&share, 4, 4, (struct pacer_load){3, 2, 4, false}); /* a processor is idle */
  assert_true(share.withheld_cpus == 0 && cpus_of(&share) >= 1);
  adjust_often(&share, 3.9, 1.5);
  pacer_share_adjust(&share, 4, 4, (struct pacer_load){3.9, 1.5, 5, false}); /* they are preempted while they mark */
  assert_true(cpus_of(&share) == 1);
  adjust_often(&share, 3.9, 1.5);
  pacer_share_adjust(&share, 4, 4, (struct pacer_load){3.9, 1.5, 4, true}); /* cycles are to be short */
  assert_true(cpus_of(&share) == 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_experience_a_cycle_starts_early),
      cmocka_unit_test(the_runway_is_the_ratio_times_the_work),
      cmocka_unit_test(who_waits_for_a_cycle_tells_little),
      cmocka_unit_test(the_runway_has_bounds),
      cmocka_unit_test(without_pointers_the_runway_is_what_a_cycle_took),
      cmocka_unit_test(extreme_goals),
      cmocka_unit_test(the_line_leads_to_the_goal),
      cmocka_unit_test(more_work_than_expected_moves_the_target),
      cmocka_unit_test(a_goal_that_was_passed_moves),
      cmocka_unit_test(assists_and_bursts_count),
      cmocka_unit_test(what_was_withheld_counts_as_done),
      cmocka_unit_test(rests_count),
      cmocka_unit_test(a_quarter_of_the_processors),
      cmocka_unit_test(idle_processors_are_used_and_given_back),
      cmocka_unit_test(threads_that_fill_the_processors_mark),
  };
  return test_run_group(tests);
}
