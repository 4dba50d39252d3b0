#include "gc/idle.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "gc/background.h"
#include "gc/collector.h"
#include "gc/sweep.h"
#include "page/arena.h"

/* What must have been allocated since the last collection, where no other came since the last rest. */
enum { WORTH_BYTES = 1 << 20, WORTH_DIVISOR = 64 };

/* A smaller heap is not worth a thread. */
#define LEAST_HEAP_BYTES ((size_t)4 << 20)

static NOT_A_ROOT struct idle_watch heap_idle;
static bool is_looking; /* atomic; the task has run */

static bool is_worth_it(const struct idle_watch *idle, uint64_t collections, size_t marked_bytes, size_t live_bytes) {
  if (collections != idle->collections) return true;
  size_t new_bytes = live_bytes > marked_bytes ? live_bytes - marked_bytes : 0;
  return new_bytes >= max_size(WORTH_BYTES, marked_bytes / WORTH_DIVISOR);
}

enum idle_action idle_step(struct idle_watch *idle, uint32_t *watch, uint64_t collections, size_t marked_bytes,
                           size_t live_bytes, uint64_t now_ns, uint64_t *wait_ns) {
  uint32_t seen = atomic_load_relaxed(watch);
  *wait_ns = UINT64_MAX;
  if (seen == ACCOUNT_WATCH_WAKE) return IDLE_REST;
  if (now_ns < idle->look_ns) {
    *wait_ns = idle->look_ns - now_ns;
    return IDLE_LOOK_LATER;
  }
  uint32_t look = ACCOUNT_WATCH_LOOK;
  if (seen == ACCOUNT_WATCH_LOOK && atomic_cas_acq_rel(watch, &look, (uint32_t)ACCOUNT_WATCH_WAKE)) {
    return is_worth_it(idle, collections, marked_bytes, live_bytes) ? IDLE_COLLECT : IDLE_REST;
  }
  atomic_store_relaxed(watch, (uint32_t)ACCOUNT_WATCH_LOOK);
  idle->look_ns = now_ns + idle->after_ns;
  *wait_ns = idle->after_ns;
  return IDLE_LOOK_LATER;
}

void idle_init(uint64_t after_ns) {
  heap_idle = (struct idle_watch){.after_ns = after_ns};
  account_waker = background_poke;
  background_register(idle_task);
}

bool idle_wants_background(void) {
  if (heap_idle.after_ns == 0 || atomic_load_relaxed(&is_looking)) return false;
  return atomic_load_relaxed(&heap_arena.used) - heap_arena.start >= LEAST_HEAP_BYTES;
}

void idle_forget(void) {
  atomic_store_relaxed(&is_looking, false);
  atomic_store_relaxed(&account_watch, (uint32_t)ACCOUNT_WATCH_NONE);
}

uint64_t idle_task(struct mutator *self, uint64_t now_ns) {
  struct collector_totals totals;
  uint64_t wait_ns;
  atomic_store_relaxed(&is_looking, true);
  collector_read_totals(&totals);
  enum idle_action action = idle_step(&heap_idle, &account_watch, totals.collections, totals.marked_bytes,
                                      atomic_load_relaxed(&account_live_bytes), now_ns, &wait_ns);
  if (action != IDLE_COLLECT) return wait_ns;
  collector_collect(COLLECT_IDLE, NULL, NULL);
  sweep_finish(self);
  collector_read_totals(&totals);
  heap_idle.collections = totals.collections;
  background_poke(); /* there may be something to release now */
  return wait_ns;
}
