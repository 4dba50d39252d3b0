/* The memory limit, end to end: programs whose live heap fits stay within a few percent of it, one whose live heap does
 * not fit goes on at half speed or better.
 *
 * Each case is a child of its own, with the limit from its start.  What is held is midden's own figure, the one that the
 * limit is on: resident memory of the process has the program's and a sanitizer's in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "midden/barrier.h"
#include "support/heap_test.h"

#define MIB ((size_t)1 << 20)
#define MS_NS ((uint64_t)1000 * 1000)

/* Of the limiter: the collector may have half of the time, and the burst.  No limiter counts what lazy sweeping takes, but
 * the statistics do. */
enum { CHILD_SECONDS = 120, TOLERANCE_PERCENT = 4, BURST_MS = 200, SWEEPING_PERCENT = 15 };

struct program {
  size_t limit_bytes, live_bytes, object_bytes;
  size_t spike_bytes; /* of one large object now and then; 0 for none */
  size_t steps;
  unsigned work; /* rounds of computing for each object */
  bool fits;
};

static void **ring; /* static data: a root */
static volatile uint64_t work_done;

static uint64_t process_cpu_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (uint64_t)now.tv_sec * 1000 * MS_NS + (uint64_t)now.tv_nsec;
}

/* So that a program does something else than allocating: or no limit could hold it. */
static void compute(unsigned rounds) {
  uint64_t value = work_done;
  for (unsigned i = 0; i < rounds; i++) value = test_mix(value + i);
  work_done = value;
}

static int run_program(void *argument) {
  const struct program *program = argument;
  struct midden_options options = {.size = sizeof options, .memory_limit_bytes = program->limit_bytes};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  struct rng rng = {test_seed_value};
  size_t count = program->live_bytes / program->object_bytes, peak_bytes = 0;
  uint64_t cpu_start_ns = process_cpu_ns(), collector_start_ns = 0;
  midden_store(&ring, midden_alloc(count * sizeof *ring));
  for (size_t step = 0; step < program->steps; step++) {
    size_t bytes = program->object_bytes / 2 + rng_below(&rng, program->object_bytes);
    char *object = midden_alloc(bytes);
    REQUIRE(object != NULL, "no memory under a soft limit");
    object[0] = object[bytes - 1] = 1;
    midden_store(&ring[step < count ? step : rng_below(&rng, count)], object);
    compute(program->work);
    if (program->spike_bytes != 0 && step % 4096 == 4095) {
      char *spike = midden_alloc_data(program->spike_bytes);
      memset(spike, 1, program->spike_bytes);
    }
    if (step == program->steps / 4) {
      cpu_start_ns = process_cpu_ns();
      collector_start_ns = test_stats().collector_cpu_ns;
    }
    if (step % 256 != 0) continue;
    struct midden_stats stats = test_stats();
    if (stats.held > peak_bytes) peak_bytes = stats.held;
  }
  struct midden_stats stats = test_stats();
  midden_verify();
  double cpu_ns = (double)(process_cpu_ns() - cpu_start_ns);
  double share = (double)(stats.collector_cpu_ns - collector_start_ns) / cpu_ns;
  double over = 100.0 * (double)peak_bytes / (double)program->limit_bytes - 100;
  printf("limit %zu MiB, live %zu MiB: peak %+.1f%%, %zu collections, put off %zu, collector %.0f%%\n",
         program->limit_bytes / MIB, program->live_bytes / MIB, over, (size_t)stats.collections,
         (size_t)stats.limit_yields, 100 * share);
  fflush(stdout);
  REQUIRE(stats.collections > 2, "%zu collections", (size_t)stats.collections);
  if (program->fits && stats.limit_yields == 0) {
    REQUIRE(over < TOLERANCE_PERCENT, "%.1f%% above the limit", over);
  }
  double most_share = 0.5 + BURST_MS * MS_NS / 2.0 / cpu_ns + SWEEPING_PERCENT / 100.0;
  if (!program->fits) REQUIRE(share < most_share, "the collector took %.0f%%", 100 * share);
  return 0;
}

static void run_case(const struct program *program) {
  struct program copy = *program;
  copy.steps = test_steps(program->steps);
  test_child_succeeds("a program under a limit", run_program, &copy, CHILD_SECONDS);
}

static void steady(void **state) {
  (void)state;
  run_case(&(struct program){.limit_bytes = 48 * MIB,
                             .live_bytes = 24 * MIB,
                             .object_bytes = 512,
                             .steps = 120000,
                             .work = 600,
                             .fits = true});
}

static void growing_to_nine_tenths(void **state) {
  (void)state;
  run_case(&(struct program){.limit_bytes = 32 * MIB,
                             .live_bytes = 25 * MIB,
                             .object_bytes = 2000,
                             .steps = 30000,
                             .work = 3000,
                             .fits = true});
}

static void spiky(void **state) {
  (void)state;
  run_case(&(struct program){.limit_bytes = 48 * MIB,
                             .live_bytes = 16 * MIB,
                             .object_bytes = 512,
                             .spike_bytes = 8 * MIB,
                             .steps = 120000,
                             .work = 800,
                             .fits = true});
}

static void live_heap_above_the_limit(void **state) {
  (void)state;
  run_case(&(struct program){
      .limit_bytes = 16 * MIB, .live_bytes = 32 * MIB, .object_bytes = 512, .steps = 1000000, .work = 0});
}

/* A limit set on a running heap, below what it holds: idle memory goes at once, and nothing breaks. */
static int lower_the_limit(void *argument) {
  (void)argument;
  for (size_t i = 0; i < 64; i++) memset(midden_alloc_data(MIB), 1, MIB);
  midden_collect();
  size_t before = test_stats().held;
  assert_int_equal(midden_set_memory_limit(8 * MIB), 0);
  size_t after = test_stats().held;
  REQUIRE(after < before && after < 16 * MIB, "held: %zu, then %zu", before, after);
  for (size_t i = 0; i < 64; i++) memset(midden_alloc_data(MIB), 1, MIB);
  REQUIRE(test_stats().held < 16 * MIB, "held: %zu", test_stats().held);
  REQUIRE(midden_set_memory_limit(0) == 8 * MIB, "the limit from before");
  midden_verify();
  return 0;
}

static void a_limit_below_what_is_held(void **state) {
  (void)state;
  test_child_succeeds("a lower limit", lower_the_limit, NULL, CHILD_SECONDS);
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guards take memory of their own */
  test_start("stress/limit");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(steady),
      cmocka_unit_test(growing_to_nine_tenths),
      cmocka_unit_test(spiky),
      cmocka_unit_test(live_heap_above_the_limit),
      cmocka_unit_test(a_limit_below_what_is_held),
  };
  return test_run_group(tests);
}
