/* Who works in slices beside a busy thread, on one processor: between slices it lets that thread run, and yet it is not starved.
 *
 * Both run for some tenths of a second, by their own clocks of processor time: other load on the machine takes from both alike. */
#define _GNU_SOURCE 1
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/wait.h"
#include "os/os.h"
#include "support/heap_test.h"

enum { SLICE_NS = 100000, TOTAL_NS = 400000000 };

static bool is_over;     /* atomic */
static uint64_t busy_ns; /* atomic; processor time of the busy thread */

/* The test's process on one processor. */
static void stay_on_one(void) {
  cpu_set_t allowed, one;
  REQUIRE(sched_getaffinity(0, sizeof(allowed), &allowed) == 0, "sched_getaffinity");
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE; i++) {
    if (!CPU_ISSET(i, &allowed)) continue;
    CPU_SET(i, &one);
    break;
  }
  REQUIRE(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity");
}

static void *be_busy(void *unused) {
  while (!atomic_load_acquire(&is_over)) atomic_store_relaxed(&busy_ns, os_thread_cpu_ns());
  return unused;
}

static void work(uint64_t ns) {
  uint64_t end_ns = os_thread_cpu_ns() + ns;
  while (os_thread_cpu_ns() < end_ns) continue;
}

/* Of the processor time of both, what the worker had. */
static double share_of_worker(bool gives_way) {
  struct wait_manners manners = {0};
  uint64_t start_ns = os_thread_cpu_ns(), own_ns = 0;
  uint64_t busy_start_ns = atomic_load_relaxed(&busy_ns), other_ns = 0;
  while (own_ns + other_ns < TOTAL_NS) {
    work(SLICE_NS);
    if (gives_way) wait_give_way(&manners);
    own_ns = os_thread_cpu_ns() - start_ns;
    other_ns = atomic_load_relaxed(&busy_ns) - busy_start_ns;
  }
  double share = (double)own_ns / (double)(own_ns + other_ns);
  printf("  %s: %.0f%% of both\n", gives_way ? "gives way" : "does not", 100 * share);
  return share;
}

static bool is_in(double share, double low, double high) { return share > low && share < high; }

/* Others may want the same processor: of some attempts one has it to itself. */
static void who_gives_way_has_a_quarter_instead_of_half(void **state) {
  (void)state;
  enum { ATTEMPTS = 5 };
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, be_busy, NULL) == 0, "pthread_create");
  while (atomic_load_relaxed(&busy_ns) == 0) wait_yield();
  bool is_right = false;
  for (int i = 0; i < ATTEMPTS && !is_right; i++) {
    double share = share_of_worker(true), fair_share = share_of_worker(false);
    is_right = is_in(share, 0.15, 0.4) && is_in(fair_share, 0.4, 0.6);
  }
  atomic_store_release(&is_over, true);
  pthread_join(thread, NULL);
  assert_true(is_right);
}

int main(void) {
  os_init();
  stay_on_one();
  const struct CMUnitTest tests[] = {cmocka_unit_test(who_gives_way_has_a_quarter_instead_of_half)};
  return test_run_group(tests);
}
