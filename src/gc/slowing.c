#include "gc/slowing.h"

#include "base/attr.h"
#include "base/bits.h"
#include "base/wait.h"
#include "gc/cycle.h"
#include "gc/driver.h"
#include "gc/mark.h"

/* Forecasts fail by so much; what is beyond is to be stopped while the heap is drained, too. */
enum { GROWTH_DIVISOR = 16, RUNAWAY_DIVISOR = 8 };

enum { REST_NS = 400 * 1000, REST_BYTES = 32 << 10 /* of a large object are worth a rest each */ };

size_t slowing_beyond_bytes = SIZE_MAX;
uint32_t slowing_starving;

static NOT_A_ROOT struct {
  uint32_t stops; /* how often slowing was stopped: who rests waits for another */
  uint32_t cycle;
  size_t count;
  uint64_t ns;
  uint64_t longest_ns;
} rests; /* atomic */

static void rest_while_safe(uintptr_t stack_pointer, void *self) {
  uint32_t stops = atomic_load_acquire(&rests.stops);
  if (slowing_is_due()) mutator_wait_on_word(self, stack_pointer, &rests.stops, stops, REST_NS);
}

static void count_own(struct midden_tracer *tracer, uint64_t ns) {
  uint32_t cycle = atomic_load_relaxed(&rests.cycle);
  if (tracer->rest_cycle != cycle) tracer->rested_ns = 0;
  tracer->rest_cycle = cycle;
  tracer->rested_ns += ns;
  atomic_raise_relaxed(&rests.longest_ns, tracer->rested_ns);
}

static void rest_once(struct mutator *self) {
  uint64_t start_ns = os_now_ns();
  os_call_with_registers(rest_while_safe, self);
  uint64_t ns = os_now_ns() - start_ns;
  atomic_add_relaxed(&rests.ns, ns);
  atomic_add_relaxed(&rests.count, (size_t)1);
  if (self->tracer != NULL) count_own(self->tracer, ns);
}

void slowing_rest(struct mutator *self, size_t bytes) {
  if (collector_is_mine(self) || self->critical != 0 || driver_is(self)) return; /* others wait for it */
  for (size_t i = 0; i <= bytes / REST_BYTES && slowing_is_due(); i++) rest_once(self);
}

static size_t goal_and(unsigned divisor, size_t begun_bytes) {
  size_t goal_bytes = atomic_load_relaxed(&collector.totals.goal_bytes), bytes = max_size(goal_bytes, begun_bytes);
  return goal_bytes == SIZE_MAX ? SIZE_MAX : add_saturating(bytes, bytes / divisor);
}

static void stem_beyond(size_t bytes) {
  if (atomic_load_relaxed(&slowing_beyond_bytes) != 0) atomic_store_relaxed(&slowing_beyond_bytes, bytes);
}

/* A memory limit allows none of it. */
void slowing_stem_growth(void) {
  bool is_limited = collector.pacer.memory_limit_bytes != SIZE_MAX;
  stem_beyond(is_limited ? atomic_load_relaxed(&collector.totals.goal_bytes) : goal_and(GROWTH_DIVISOR, 0));
}

void slowing_stem_runaway(size_t begun_bytes) { stem_beyond(goal_and(RUNAWAY_DIVISOR, begun_bytes)); }

void slowing_stem_all(void) { atomic_store_relaxed(&slowing_beyond_bytes, (size_t)0); }

void slowing_stop(void) {
  atomic_store_relaxed(&slowing_beyond_bytes, SIZE_MAX);
  atomic_add_acq_rel(&rests.stops, 1u); /* a thread that has read it sees that none is slowed */
  wake_all(&rests.stops);
}

size_t slowing_rests(void) { return atomic_load_relaxed(&rests.count); }

uint64_t slowing_rested_ns(void) { return atomic_load_relaxed(&rests.ns); }

uint64_t slowing_longest_ns(void) { return atomic_load_relaxed(&rests.longest_ns); }

void slowing_begin(void) {
  atomic_store_relaxed(&rests.count, (size_t)0);
  atomic_store_relaxed(&rests.ns, UINT64_C(0));
  atomic_store_relaxed(&rests.longest_ns, UINT64_C(0));
  atomic_add_relaxed(&rests.cycle, 1u);
  slowing_stem_growth();
}

void slowing_forked(void) {
  atomic_store_relaxed(&slowing_beyond_bytes, SIZE_MAX);
  atomic_store_relaxed(&slowing_starving, 0u);
}
