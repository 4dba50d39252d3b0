#include "gc/slowing.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/wait.h"
#include "gc/cycle.h"

enum { RUNAWAY_DIVISOR = 8, REST_NS = 400 * 1000 };

uint32_t slowing_is_on;

static NOT_A_ROOT size_t rests; /* atomic */

void slowing_set(bool is_on) {
  atomic_store_release(&slowing_is_on, (uint32_t)is_on);
  if (!is_on) wake_all(&slowing_is_on);
}

static void rest_while_safe(uintptr_t stack_pointer, void *self) {
  mutator_wait_on_word(self, stack_pointer, &slowing_is_on, 1, REST_NS);
}

void slowing_rest(struct mutator *self) {
  if (collector_is_mine(self) || self->critical != 0) return;
  os_call_with_registers(rest_while_safe, self);
  atomic_add_relaxed(&rests, (size_t)1);
}

static void stem_growth_beyond(size_t bytes) {
  if (slowing_is_on == 0 && atomic_load_relaxed(&account_live_bytes) > bytes) slowing_set(true);
}

void slowing_stem_growth(void) { stem_growth_beyond(atomic_load_relaxed(&collector.totals.goal_bytes)); }

void slowing_stem_runaway(void) {
  size_t goal_bytes = atomic_load_relaxed(&collector.totals.goal_bytes);
  if (goal_bytes != SIZE_MAX) stem_growth_beyond(goal_bytes + goal_bytes / RUNAWAY_DIVISOR);
}

size_t slowing_rests(void) { return atomic_load_relaxed(&rests); }

void slowing_begin(void) { atomic_store_relaxed(&rests, (size_t)0); }

void slowing_forked(void) { atomic_store_relaxed(&slowing_is_on, 0u); }
