#include "gc/driver.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/wait.h"
#include "gc/assist.h"
#include "gc/background.h"
#include "gc/cycle.h"
#include "gc/handover.h"
#include "gc/idle.h"
#include "gc/slowing.h"
#include "mutator/world.h"
#include "os/os.h"

enum { NONE, STARTING, STARTED };

/* An eighth beyond the goal a thread waits for the cycle to begin; for some milliseconds at most, in case that it does not.  Less
 * where the driver is at it: in dirty-page mode a large heap is protected first, which takes long and needs no processor more. */
enum { OVERRUN_DIVISOR = 8, BEGIN_POLL_NS = 100000, BEGIN_TRIES = 100, BEGUN_TRIES = 10 };

static struct {
  uint32_t state;    /* atomic; see driver.h */
  uint32_t requests; /* atomic; what the driver sleeps on */
  uint32_t served;   /* atomic; what those sleep on who wait for a cycle */
  uint32_t waiting;  /* atomic; how many do */
  uint32_t reason;   /* atomic; of the last request that is waited for, else of an idle one */
  uint32_t thread;   /* atomic; the kernel's name of the driver */
  bool is_serving;   /* atomic */
} driver CACHE_ALIGNED;

/* ---- in the thread ---- */

static void serve(struct mutator *self, uint32_t requests) {
  uint32_t reason = atomic_exchange_acq_rel(&driver.reason, (uint32_t)COLLECT_HEAP);
  atomic_store_relaxed(&driver.is_serving, true);
  mutator_leave_safe(self);
  collector_run_concurrently(self, (enum collector_reason)reason);
  atomic_store_relaxed(&driver.is_serving, false);
  mutator_enter_safe(self, self->stack_base); /* between cycles it holds nothing */
  atomic_store_release(&driver.served, requests);
  wake_all(&driver.served);
  idle_cycle_ended();
}

static void run(void *argument) {
  (void)argument;
  if (mutator_attach_own() != 0) {
    atomic_store_release(&driver.state, (uint32_t)NONE);
    wake_all(&driver.served);
    return;
  }
  struct mutator *self = mutator_self();
  int signal = 0;
  atomic_store_relaxed(&driver.thread, self->thread_id);
  os_take_short_turns();
  mutator_enter_safe(self, self->stack_base);
  atomic_store_release(&driver.state, (uint32_t)STARTED);
  background_wake(); /* from now on it may be poked where it could not be started */
  for (;;) {
    world_unblock_signal(&signal);
    uint32_t requests = atomic_load_acquire(&driver.requests);
    if (requests == atomic_load_relaxed(&driver.served)) {
      wait_on_word(&driver.requests, requests);
    } else {
      serve(self, requests);
    }
  }
}

/* ---- for others ---- */

static bool is_there(void) {
  uint32_t none = NONE;
  if (LIKELY(atomic_load_acquire(&driver.state) != NONE)) return true;
  if (atomic_cas_acq_rel(&driver.state, &none, (uint32_t)STARTING) && mutator_start_own(run, NULL, "midden-gc") != 0)
    atomic_store_release(&driver.state, (uint32_t)NONE);
  return atomic_load_acquire(&driver.state) != NONE;
}

/* Nobody waits for an idle one: it takes no other's place, whose cycle serves it too. */
static void note_reason(enum collector_reason reason) {
  uint32_t heap = COLLECT_HEAP;
  if (reason == COLLECT_IDLE) {
    atomic_cas_relaxed(&driver.reason, &heap, (uint32_t)reason);
  } else if (reason != COLLECT_HEAP) {
    atomic_store_relaxed(&driver.reason, (uint32_t)reason);
  }
}

static uint32_t post(enum collector_reason reason) {
  note_reason(reason);
  uint32_t number = atomic_add_acq_rel(&driver.requests, 1u) + 1;
  wake_one(&driver.requests);
  return number;
}

static bool is_served(uint32_t number) { return (int32_t)(atomic_load_acquire(&driver.served) - number) >= 0; }

/* A driver that could not attach leaves again: there is nothing to wait for. */
static bool is_settled(uint32_t number) { return is_served(number) || atomic_load_acquire(&driver.state) == NONE; }

struct wait {
  struct mutator *self;
  enum collector_reason reason;
  bool is_posted;
  uint32_t number; /* of the request */
  bool is_to_tell; /* it has ended a cycle */
};

static bool is_over(const struct wait *wait) { return is_settled(wait->number) || handover_is_offered(); }

/* Until the cycle is over, or this thread wanted for its end.  It is safe before it asks: then its stack is never scanned from
 * further below than `stack_pointer`. */
static void wait_while_safe(struct wait *wait, uintptr_t stack_pointer) {
  enum { LOOK_AGAIN_NS = 100000000 };
  struct os_signals before;
  mutator_begin_wait(wait->self, stack_pointer, &before);
  if (!wait->is_posted) wait->number = post(wait->reason);
  wait->is_posted = true;
  while (!is_over(wait)) {
    uint32_t served = atomic_load_acquire(&driver.served);
    if (!is_over(wait)) wait_on_word_for(&driver.served, served, LOOK_AGAIN_NS);
  }
  mutator_end_wait(wait->self, &before);
}

static void wait_with_registers(uintptr_t stack_pointer, void *argument) {
  struct wait *wait = argument;
  do {
    wait_while_safe(wait, stack_pointer);
    wait->is_to_tell = handover_take_at(wait->self, stack_pointer) || wait->is_to_tell;
  } while (!is_settled(wait->number));
}

/* The heap has passed its goal, and no cycle that was asked for on the way has begun: the driver has had no processor. */
static bool is_overdue(void) {
  size_t goal_bytes = atomic_load_relaxed(&collector.totals.goal_bytes);
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes);
  return account_collection_is_due() && !collector_is_disabled() && goal_bytes < live_bytes &&
         live_bytes - goal_bytes > goal_bytes / OVERRUN_DIVISOR;
}

static int begin_tries(void) { return atomic_load_relaxed(&driver.is_serving) ? BEGUN_TRIES : BEGIN_TRIES; }

/* Gives it this thread's. */
static void wait_for_begin(uintptr_t stack_pointer, void *argument) {
  struct mutator *self = argument;
  struct os_signals before;
  mutator_begin_wait(self, stack_pointer, &before);
  for (int i = 0; i < begin_tries() && is_overdue(); i++)
    wait_on_word_for(&driver.served, atomic_load_acquire(&driver.served), BEGIN_POLL_NS);
  mutator_end_wait(self, &before);
}

bool driver_is(const struct mutator *self) { return atomic_load_relaxed(&driver.thread) == self->thread_id; }

/* Nothing of the program's runs in between that may leave it for good. */
static void await(struct wait *wait) {
  uint32_t starving = wait->self->is_starving;
  atomic_add_relaxed(&driver.waiting, 1u);
  atomic_add_relaxed(&slowing_starving, starving);
  assist_wake_worker();
  os_call_with_registers(wait_with_registers, wait);
  atomic_sub_relaxed(&slowing_starving, starving);
  atomic_sub_relaxed(&driver.waiting, 1u);
  if (wait->is_to_tell) collector_notify_finalizers();
}

bool driver_request(struct mutator *self, enum collector_reason reason) {
  if (!is_there()) return false;
  if (reason == COLLECT_HEAP) {
    /* One that is asked for and not yet served is enough. */
    if (atomic_load_acquire(&driver.requests) == atomic_load_acquire(&driver.served)) post(reason);
    if (UNLIKELY(is_overdue())) os_call_with_registers(wait_for_begin, self);
    return true;
  }
  if (driver_is(self)) return false;
  struct wait wait = {.self = self, .reason = reason};
  await(&wait);
  return is_served(wait.number);
}

/* The cycle may be over by now, and another one have begun: what is read of the two fits the first. */
bool driver_await_end(struct mutator *self) {
  uint32_t served = atomic_load_acquire(&driver.served);
  if (!atomic_load_relaxed(&driver.is_serving) || driver_is(self)) return false;
  struct wait wait = {.self = self, .is_posted = true, .number = served + 1};
  await(&wait);
  return true;
}

bool driver_ask_idle(uint32_t *request) {
  if (!is_there()) return false;
  *request = post(COLLECT_IDLE);
  return true;
}

bool driver_has_served(uint32_t request) { return is_settled(request); }

bool driver_is_urgent(void) { return atomic_load_relaxed(&driver.waiting) != 0; }

void driver_wake_waiting(void) {
  if (atomic_load_acquire(&driver.waiting) != 0) wake_all(&driver.served);
}

void driver_forget(void) {
  atomic_store_relaxed(&driver.state, (uint32_t)NONE);
  atomic_store_relaxed(&driver.waiting, 0u);
  atomic_store_relaxed(&driver.thread, 0u);
  atomic_store_relaxed(&driver.is_serving, false);
  atomic_store_relaxed(&driver.served, atomic_load_relaxed(&driver.requests));
}
