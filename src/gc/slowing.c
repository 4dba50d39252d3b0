#include "gc/slowing.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/wait.h"
#include "gc/cycle.h"

/* Forecasts fail by so much; what is beyond is to be stopped while the heap is drained, too. */
enum { GROWTH_DIVISOR = 16, RUNAWAY_DIVISOR = 8 };

enum { REST_NS = 400 * 1000 };

uint32_t slowing_is_on;

static NOT_A_ROOT struct {
  size_t count;
  uint64_t ns;
} rests; /* atomic */

void slowing_set(bool is_on) {
  atomic_store_release(&slowing_is_on, (uint32_t)is_on);
  if (!is_on) wake_all(&slowing_is_on);
}

static void rest_while_safe(uintptr_t stack_pointer, void *self) {
  mutator_wait_on_word(self, stack_pointer, &slowing_is_on, 1, REST_NS);
}

void slowing_rest(struct mutator *self) {
  if (collector_is_mine(self) || self->critical != 0) return;
  uint64_t start_ns = os_now_ns();
  os_call_with_registers(rest_while_safe, self);
  atomic_add_relaxed(&rests.ns, os_now_ns() - start_ns);
  atomic_add_relaxed(&rests.count, (size_t)1);
}

static size_t beyond(size_t goal_bytes, unsigned divisor) {
  return goal_bytes == SIZE_MAX ? SIZE_MAX : goal_bytes + goal_bytes / divisor;
}

static void stem_beyond(size_t bytes) {
  if (slowing_is_on == 0 && atomic_load_relaxed(&account_live_bytes) > bytes) slowing_set(true);
}

/* A memory limit allows none of it. */
void slowing_stem_growth(void) {
  size_t goal_bytes = atomic_load_relaxed(&collector.totals.goal_bytes);
  stem_beyond(collector.pacer.memory_limit_bytes == SIZE_MAX ? beyond(goal_bytes, GROWTH_DIVISOR) : goal_bytes);
}

void slowing_stem_runaway(void) {
  stem_beyond(beyond(atomic_load_relaxed(&collector.totals.goal_bytes), RUNAWAY_DIVISOR));
}

size_t slowing_rests(void) { return atomic_load_relaxed(&rests.count); }

uint64_t slowing_rested_ns(void) { return atomic_load_relaxed(&rests.ns); }

void slowing_begin(void) {
  atomic_store_relaxed(&rests.count, (size_t)0);
  atomic_store_relaxed(&rests.ns, UINT64_C(0));
}

void slowing_forked(void) { atomic_store_relaxed(&slowing_is_on, 0u); }
