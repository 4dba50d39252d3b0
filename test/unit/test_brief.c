/* When a heap is marked in a stop altogether: arithmetic, on simulated cycles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/brief.h"
#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)

enum { LIMIT_NS = 1000000, MARKERS = 2 };

/* One full cycle of a heap that lets it grow to twice what lives, after which so much lives. */
static void stop_for_all(struct brief *brief, size_t live_bytes, double ns_per_byte) {
  brief_left(brief, live_bytes, 2 * live_bytes);
  brief_marked(brief, live_bytes, (uint64_t)(ns_per_byte * (double)live_bytes), false);
  brief_settled(brief, 0);
}

/* No thread rests. */
static void mark_beside(struct brief *brief, size_t live_bytes, double ns_per_byte, uint64_t delay_ns) {
  brief_left(brief, live_bytes, 2 * live_bytes);
  brief_marked(brief, live_bytes, (uint64_t)(ns_per_byte * (double)live_bytes), true);
  brief_delayed(brief, delay_ns, 0);
}

/* After many cycles, none of them beside the program of late: as much lives as before. */
static struct brief steady(size_t live_bytes, double ns_per_byte) {
  struct brief brief;
  brief_init(&brief, LIMIT_NS);
  for (int i = 0; i < 100; i++) stop_for_all(&brief, live_bytes, ns_per_byte);
  return brief;
}

static bool is_brief(const struct brief *brief, size_t live_bytes) {
  return brief_most_bytes(brief, MARKERS) >= 2 * live_bytes;
}

static void what_marking_took_decides(void **state) {
  (void)state;
  struct brief brief = steady(MIB, 1.8);
  assert_true(is_brief(&brief, MIB));
  brief = steady(MIB, 2.0);
  assert_false(is_brief(&brief, MIB)); /* 1.05 ms */
  assert_true(brief_most_bytes(&brief, 2 * MARKERS) >= 2 * MIB);
  brief = steady(4 * MIB, 0.4);
  assert_true(is_brief(&brief, 4 * MIB));
}

static void no_limit_no_stop(void **state) {
  (void)state;
  struct brief brief;
  brief_init(&brief, 0);
  assert_int_equal(brief_most_bytes(&brief, MARKERS), 0);
  for (int i = 0; i < 10; i++) mark_beside(&brief, MIB, 0.1, 100 * LIMIT_NS);
  assert_false(is_brief(&brief, MIB));
}

/* And what cycles beside the program would cost it is not known. */
static void at_first_all_may_live(void **state) {
  (void)state;
  struct brief brief;
  brief_init(&brief, LIMIT_NS);
  size_t most_bytes = brief_most_bytes(&brief, MARKERS);
  assert_true(most_bytes > 4 * MIB && most_bytes < 64 * MIB);
  brief_delayed(&brief, 0, 0);
  brief_delayed(&brief, 0, 0);
  assert_true(brief_most_bytes(&brief, MARKERS) < most_bytes / 2);
}

/* Of 2,000,000 bytes that can be marked. */
static void as_much_survives_as_did(void **state) {
  (void)state;
  struct brief brief = steady(MIB, 1.0);
  assert_true(brief_most_bytes(&brief, MARKERS) > 500 * MIB);
  brief_left(&brief, MIB + MIB / 4, 2 * MIB); /* a quarter of what was allocated */
  assert_in_range(brief_most_bytes(&brief, MARKERS), 4000000, 4100000);
  brief_left(&brief, MIB + MIB / 4, 2 * MIB); /* nothing: forgotten by half */
  assert_in_range(brief_most_bytes(&brief, MARKERS), 6700000, 6900000);
  brief_left(&brief, 2 * MIB, 2 * MIB); /* all of it, and more lives than can be marked */
  assert_in_range(brief_most_bytes(&brief, MARKERS), 1990000, 2000000);
}

/* Nothing that was measured makes more of a heap than it is. */
static void a_heap_may_shrink(void **state) {
  (void)state;
  struct brief brief = steady(16 * MIB, 1.0);
  assert_false(is_brief(&brief, 16 * MIB));
  brief_left(&brief, MIB / 2, 32 * MIB);
  assert_true(is_brief(&brief, MIB / 2));
  brief_left(&brief, 0, 0);
  assert_true(is_brief(&brief, MIB / 2));
}

/* As after a stop: or who has marked beside the program once would go on so for ever. */
static void marking_beside_tells_what_a_stop_would_take(void **state) {
  (void)state;
  struct brief brief = steady(MIB, 4.0);
  assert_false(is_brief(&brief, MIB));
  for (int i = 0; i < 10; i++) mark_beside(&brief, MIB, 1.8 * 1.5, 0);
  assert_true(is_brief(&brief, MIB));
}

/* Small collections of garbage that take as long as any take to begin and end. */
static void little_tells_nothing(void **state) {
  (void)state;
  struct brief brief = steady(MIB, 1.0);
  for (int i = 0; i < 10; i++) brief_marked(&brief, 1000, LIMIT_NS, false);
  assert_true(is_brief(&brief, MIB));
}

static void what_comes_after_marking_counts(void **state) {
  (void)state;
  struct brief brief = steady(MIB, 1.0);
  brief_settled(&brief, LIMIT_NS / 2);
  assert_false(is_brief(&brief, MIB));
  brief_settled(&brief, LIMIT_NS / 4);
  assert_true(is_brief(&brief, MIB));
  brief_settled(&brief, 100 * LIMIT_NS);
  assert_int_equal(brief_most_bytes(&brief, MARKERS), 0);
}

static void longer_delays_allow_longer_stops(void **state) {
  (void)state;
  struct brief brief = steady(MIB, 4.0); /* 2.1 ms */
  for (int i = 0; i < 10; i++) mark_beside(&brief, MIB, 4.0 * 1.5, LIMIT_NS * 6 / 10);
  assert_false(is_brief(&brief, MIB));
  for (int i = 0; i < 10; i++) mark_beside(&brief, MIB, 4.0 * 1.5, LIMIT_NS * 8 / 10);
  assert_true(is_brief(&brief, MIB));
  for (int i = 0; i < 10; i++) mark_beside(&brief, 2 * MIB, 4.0 * 1.5, 10 * LIMIT_NS);
  assert_false(is_brief(&brief, 2 * MIB)); /* not for any time */
}

/* Of a heap that takes 4.2 ms to mark. */
static bool is_brief_where_threads_rest(uint64_t delay_ns, uint64_t held_ns) {
  struct brief brief = steady(MIB, 8.0);
  for (int i = 0; i < 10; i++) brief_delayed(&brief, delay_ns, held_ns);
  return is_brief(&brief, MIB);
}

static void who_rests_is_as_good_as_stopped(void **state) {
  (void)state;
  assert_false(is_brief_where_threads_rest(2 * LIMIT_NS, 4 * LIMIT_NS));
  assert_true(is_brief_where_threads_rest(2 * LIMIT_NS, LIMIT_NS * 9 / 2));
  assert_true(is_brief_where_threads_rest(2 * LIMIT_NS, 100 * LIMIT_NS));
  assert_false(is_brief_where_threads_rest(LIMIT_NS, 100 * LIMIT_NS)); /* one of many */
  struct brief brief = steady(2 * MIB, 8.0);
  for (int i = 0; i < 10; i++) brief_delayed(&brief, 100 * LIMIT_NS, 100 * LIMIT_NS);
  assert_false(is_brief(&brief, 2 * MIB)); /* not for any time */
}

/* Of a heap that takes 8.4 ms to mark. */
static bool is_brief_where_writes_fault(uint64_t faults_ns) {
  struct brief brief = steady(2 * MIB, 8.0);
  brief_faulted(&brief, faults_ns);
  return is_brief(&brief, 2 * MIB);
}

static void writes_that_fault_allow_long_stops(void **state) {
  (void)state;
  assert_false(is_brief_where_writes_fault(0));
  assert_false(is_brief_where_writes_fault(8 * LIMIT_NS));
  assert_true(is_brief_where_writes_fault(9 * LIMIT_NS));
  assert_true(is_brief_where_writes_fault(UINT64_MAX));
  struct brief brief = steady(3 * MIB, 8.0);
  brief_faulted(&brief, UINT64_MAX);
  assert_false(is_brief(&brief, 3 * MIB)); /* not for any time */
  brief_init(&brief, 0);
  brief_faulted(&brief, UINT64_MAX);
  assert_int_equal(brief_most_bytes(&brief, MARKERS), 0);
}

/* What such a cycle costs is many stops. */
static void faults_are_forgotten_late_and_by_halves(void **state) {
  (void)state;
  struct brief brief = steady(MIB, 8.0);
  brief_faulted(&brief, 9 * LIMIT_NS);
  int stops = 0;
  for (; is_brief(&brief, MIB); stops++) {
    stop_for_all(&brief, MIB, 8.0);
    REQUIRE(stops < 1000, "marked in stops for ever");
  }
  assert_in_range(stops, 40, 60);
  brief_faulted(&brief, 9 * LIMIT_NS);
  assert_true(is_brief(&brief, MIB)); /* at once */
  brief_faulted(&brief, LIMIT_NS);
  assert_true(is_brief(&brief, MIB));
  brief_faulted(&brief, LIMIT_NS);
  assert_false(is_brief(&brief, MIB));
}

/* Up to 20 ms, whatever cycles beside the program cost it. */
static void who_waits_may_be_stopped_for_longer(void **state) {
  (void)state;
  struct brief brief = steady(MIB, 30.0); /* 15.7 ms */
  assert_false(is_brief(&brief, MIB));
  assert_true(brief_most_awaited_bytes(&brief, MARKERS) >= 2 * MIB);
  assert_true(brief_most_awaited_bytes(&brief, 1) < 2 * MIB);
  brief_settled(&brief, 5 * LIMIT_NS);
  assert_true(brief_most_awaited_bytes(&brief, MARKERS) < 2 * MIB);
  brief_init(&brief, 0);
  assert_int_equal(brief_most_awaited_bytes(&brief, MARKERS), 0);
}

/* And the program may delay others no more: that is found out. */
static void delays_are_forgotten(void **state) {
  (void)state;
  struct brief brief = steady(MIB, 4.0);
  for (int i = 0; i < 10; i++) mark_beside(&brief, MIB, 4.0 * 1.5, 10 * LIMIT_NS);
  int stops = 0;
  for (; is_brief(&brief, MIB); stops++) {
    stop_for_all(&brief, MIB, 4.0);
    REQUIRE(stops < 1000, "marked in stops for ever");
  }
  assert_true(stops > 10);
}

static void so_are_rests(void **state) {
  (void)state;
  struct brief brief = steady(MIB, 8.0);
  for (int i = 0; i < 10; i++) brief_delayed(&brief, 100 * LIMIT_NS, 100 * LIMIT_NS);
  for (int i = 0; i < 52; i++) stop_for_all(&brief, MIB, 8.0); /* a thirtieth is left of either */
  assert_false(is_brief(&brief, MIB));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_marking_took_decides),
      cmocka_unit_test(no_limit_no_stop),
      cmocka_unit_test(at_first_all_may_live),
      cmocka_unit_test(as_much_survives_as_did),
      cmocka_unit_test(a_heap_may_shrink),
      cmocka_unit_test(marking_beside_tells_what_a_stop_would_take),
      cmocka_unit_test(little_tells_nothing),
      cmocka_unit_test(what_comes_after_marking_counts),
      cmocka_unit_test(longer_delays_allow_longer_stops),
      cmocka_unit_test(who_rests_is_as_good_as_stopped),
      cmocka_unit_test(writes_that_fault_allow_long_stops),
      cmocka_unit_test(faults_are_forgotten_late_and_by_halves),
      cmocka_unit_test(who_waits_may_be_stopped_for_longer),
      cmocka_unit_test(delays_are_forgotten),
      cmocka_unit_test(so_are_rests),
  };
  return test_run_group(tests);
}
