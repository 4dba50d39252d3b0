#include "gc/idle.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "gc/background.h"
#include "gc/collector.h"
#include "gc/driver.h"
#include "gc/sweep.h"
#include "page/arena.h"

/* What must have been allocated since the last collection, where no other came since the last rest. */
enum { WORTH_BYTES = 1 << 20, WORTH_DIVISOR = 64 };

/* A smaller heap is not worth a thread. */
#define LEAST_HEAP_BYTES ((size_t)4 << 20)

static NOT_A_ROOT struct idle_watch heap_idle;
static bool is_looking;  /* atomic; the task has run */
static bool is_awaiting; /* atomic; the driver was asked for a cycle that the task has not seen the end of */
static uint32_t awaited; /* that request; the task's */

static bool is_worth_it(const struct idle_watch *idle, const struct idle_view *view) {
  if (view->collections != idle->collections) return true;
  size_t new_bytes = view->live_bytes > view->marked_bytes ? view->live_bytes - view->marked_bytes : 0;
  return new_bytes >= max_size(WORTH_BYTES, view->marked_bytes / WORTH_DIVISOR);
}

static enum idle_action look_at(struct idle_watch *idle, uint64_t look_ns, uint64_t now_ns, uint64_t *wait_ns) {
  idle->look_ns = look_ns;
  *wait_ns = look_ns - now_ns;
  return IDLE_LOOK_LATER;
}

enum idle_action idle_step(struct idle_watch *idle, uint32_t *watch, const struct idle_view *view, uint64_t *wait_ns) {
  uint32_t seen = atomic_load_relaxed(watch);
  uint64_t now_ns = view->now_ns, silent_ns = view->collected_ns + idle->after_ns;
  *wait_ns = UINT64_MAX;
  if (seen == ACCOUNT_WATCH_WAKE) return IDLE_REST;
  if (now_ns < idle->look_ns) return look_at(idle, idle->look_ns, now_ns, wait_ns);
  if (seen == ACCOUNT_WATCH_LOOK && now_ns < silent_ns) return look_at(idle, silent_ns, now_ns, wait_ns);
  uint32_t look = ACCOUNT_WATCH_LOOK;
  if (seen == ACCOUNT_WATCH_LOOK && atomic_cas_acq_rel(watch, &look, (uint32_t)ACCOUNT_WATCH_WAKE))
    return is_worth_it(idle, view) ? IDLE_COLLECT : IDLE_REST;
  atomic_store_relaxed(watch, (uint32_t)ACCOUNT_WATCH_LOOK);
  return look_at(idle, now_ns + idle->after_ns, now_ns, wait_ns);
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

void idle_cycle_ended(void) {
  if (atomic_load_relaxed(&is_awaiting)) background_poke();
}

void idle_forget(void) {
  atomic_store_relaxed(&is_looking, false);
  atomic_store_relaxed(&is_awaiting, false);
  atomic_store_relaxed(&account_watch, (uint32_t)ACCOUNT_WATCH_NONE);
}

/* True when it is over. */
static bool collect(void) {
  atomic_store_relaxed(&is_awaiting, true); /* before the driver may have seen the request */
  bool is_over = collector_collect_idle(&awaited);
  if (is_over) atomic_store_relaxed(&is_awaiting, false);
  return is_over;
}

static bool is_still_running(void) {
  if (!driver_has_served(awaited)) return true;
  atomic_store_relaxed(&is_awaiting, false);
  return false;
}

/* A program that allocates again sweeps for itself. */
static void end(struct mutator *self) {
  struct collector_totals totals;
  if (atomic_load_relaxed(&account_watch) == ACCOUNT_WATCH_WAKE) sweep_finish(self);
  collector_read_totals(&totals);
  heap_idle.collections = totals.collections;
  background_poke(); /* there may be something to release now */
}

static enum idle_action step(uint64_t now_ns, uint64_t *wait_ns) {
  struct collector_totals totals;
  collector_read_totals(&totals);
  struct idle_view view = {.collections = totals.collections,
                           .marked_bytes = totals.marked_bytes,
                           .live_bytes = atomic_load_relaxed(&account_live_bytes),
                           .collected_ns = collector_worked_until_ns(now_ns),
                           .now_ns = now_ns};
  return idle_step(&heap_idle, &account_watch, &view, wait_ns);
}

uint64_t idle_task(struct mutator *self, uint64_t now_ns) {
  uint64_t wait_ns;
  atomic_store_relaxed(&is_looking, true);
  if (atomic_load_relaxed(&is_awaiting)) {
    if (is_still_running()) return UINT64_MAX;
    end(self);
  }
  if (step(now_ns, &wait_ns) == IDLE_COLLECT && collect()) end(self);
  return wait_ns;
}
