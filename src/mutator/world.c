#include "mutator/world.h"

#include <errno.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/wait.h"
#include "mutator/barrier.h"
#include "mutator/fiber.h"
#include "mutator/handshake.h"

enum { RECHECK_NS = 2000000, PATIENCE_NS = 2000000000, REFUSAL_NS = 50000, REFUSAL_DOUBLINGS = WORLD_RESPITES - 1 };

/* Of a frame of midden_locked_call and of what may lie between it and the program's. */
enum { RETURN_FRAME_BYTES = 256 };

static struct {
  uint32_t epoch;                /* atomic; odd: stopped.  Written under the threads lock */
  uint32_t acknowledgments;      /* atomic; counts up; what the stopping thread sleeps on */
  const struct mutator *awaited; /* atomic; the thread for which it does */
  const struct mutator *stopper; /* atomic; that thread, from before it begins until all is resumed; or NULL */
  int signal;                    /* atomic to read; written under the threads lock */
  size_t signalled;              /* threads that the last stop signalled; under the threads lock */
} world CACHE_ALIGNED;

int world_signal(void) { return atomic_load_relaxed(&world.signal); }

size_t world_signalled(void) { return world.signalled; }

bool world_is_stopped(void) { return (atomic_load_seq_cst(&world.epoch) & 1) != 0; }

bool world_is_stopped_by(const struct mutator *self) { return atomic_load_relaxed(&world.stopper) == self; }

/* What it acknowledges was stored before, and the stopping thread looks at that after it has said whom it awaits, all of it
 * sequentially consistent: either that thread sees it, or this one that it is awaited. */
void world_acknowledge(const struct mutator *self) {
  if (!world_is_stopped()) return;
  atomic_add_acq_rel(&world.acknowledgments, 1u);
  if (atomic_load_seq_cst(&world.awaited) == self) wake_one(&world.acknowledgments);
}

void world_wait_resumed(void) {
  for (;;) {
    uint32_t epoch = atomic_load_acquire(&world.epoch);
    if ((epoch & 1) == 0) return;
    wait_on_word(&world.epoch, epoch);
  }
}

/* A thread may lose its processor anywhere, between its return from midden_locked_call and the store that it was to make at once
 * as well.  As long as its stack is as deep as it was there it may not have made it.  But it may also stay there for good: it
 * gets a few short times to go on, then it is stopped. */
static bool has_hardly_returned(struct mutator *self, uintptr_t stack_pointer) {
  if (self->respites == 0) return false;
  bool is_near = stack_pointer - self->return_frame + RETURN_FRAME_BYTES < (uintptr_t)2 * RETURN_FRAME_BYTES;
  self->respites = is_near ? self->respites - 1 : 0;
  return is_near;
}

static bool is_returning(struct mutator *self, const struct os_interruption *interruption) {
  return self->is_returning ||
         (world_is_stopped() && has_hardly_returned(self, interruption->interrupted_stack_pointer));
}

/* Runs in the thread to be stopped, wherever it is; takes no lock, allocates nothing. */
static void on_stop_signal(const struct os_interruption *interruption) {
  struct mutator *self = mutator_self_if_attached();
  if (self == NULL || atomic_load_relaxed(&self->state) != MUTATOR_RUNNING) return; /* a late signal */
  if (world_is_stopped_by(self)) return;                                            /* likewise, or anybody's */
  if (!world_is_stopped() && !handshake_is_wanted(self)) return;
  if (self->critical != 0) {
    atomic_store_relaxed(&self->stop_pending, true);
    return;
  }
  /* In the middle of a store it must not count as SAFE, not even when it has been let go and not yet gone on. */
  if (self->inside_store != 0 || is_returning(self, interruption)) {
    if (self->inside_store != 0) atomic_store_relaxed(&self->stop_pending, true);
    atomic_store_seq_cst(&self->refused_to_stop, true);
    world_acknowledge(self);
    handshake_refuse();
    return;
  }
  self->interrupted = interruption->alternate_stack;
  if (!world_is_stopped() && handshake_is_wanted(self)) handshake_answer(self, interruption->stack_pointer);
  if (world_is_stopped()) {
    mutator_enter_safe_asking(self, interruption->stack_pointer);
    mutator_leave_safe(self);
  }
  self->interrupted = (struct os_range){0};
}

int world_init(int signal) {
  world.signal = signal != 0 ? signal : os_default_suspend_signal();
  return os_install_suspend_handler(world.signal, on_stop_signal);
}

int world_change_signal(int signal) {
  int error = os_install_suspend_handler(signal, on_stop_signal);
  if (error != 0) return error;
  atomic_store_relaxed(&world.signal, signal);
  os_unblock_signal(signal);
  return 0;
}

void world_unblock_signal(int *unblocked) {
  int signal = world_signal();
  if (*unblocked == signal) return;
  os_unblock_signal(signal);
  *unblocked = signal;
}

/* A program that resets its signals, as the child of a fork does that becomes a daemon, would never stop, or die, by what is the
 * default of this one.  If it does so between this look and a signal, that one is lost, and is to be repeated. */
bool world_keep_signal(void) { return !WORLD_BY_POLL && os_keep_suspend_handler(world_signal()); }

int world_interrupt(struct mutator *mutator) {
  if (!WORLD_BY_POLL) return os_signal_thread(mutator->thread_id, world_signal());
  atomic_store_release(&mutator->stop_pending, true);
  return os_signal_thread(mutator->thread_id, 0); /* whether it is there */
}

static bool is_running(struct mutator *mutator) { return atomic_load_seq_cst(&mutator->state) == MUTATOR_RUNNING; }

/* A thread that ended without detaching is found here; its cache goes with it. */
void world_forget_ended(struct mutator *mutator) {
  fiber_abandon(mutator);
  atomic_store_seq_cst(&mutator->state, (uint32_t)MUTATOR_SAFE);
  mutator->stack_pointer = mutator->stack_base;
  mutator->alternate_stack = (struct os_range){0};
  mutator->thread_pointer = 0;
  mutator->was_signalled = false;
}

static void signal_one(struct mutator *mutator) {
  int error = world_interrupt(mutator);
  if (error == -ESRCH) {
    world_forget_ended(mutator);
  } else {
    CHECK(error == 0 || error == -EAGAIN, "cannot signal thread %u: error %d", mutator->thread_id, error);
  }
}

static void signal_running(struct mutator *self) {
  world.signalled = 0;
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    struct mutator *mutator = mutator_from(link);
    mutator->was_signalled = mutator != self && is_running(mutator);
    if (!mutator->was_signalled) continue;
    if (world.signalled++ == 0) world_keep_signal();
    signal_one(mutator);
  }
}

/* Any of them may have lost it; who gets it twice takes the second for a late one. */
static void signal_all_again(void) {
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    struct mutator *mutator = mutator_from(link);
    if (mutator->was_signalled && is_running(mutator)) signal_one(mutator);
  }
}

/* It was about to return to the program: it gets the time to do so, whatever others acknowledge meanwhile; more of it each time,
 * for it may run among many. */
static void signal_again(struct mutator *mutator, unsigned refusals) {
  uint64_t since = os_now_ns(), waited = 0, patience = (uint64_t)REFUSAL_NS << min_size(refusals, REFUSAL_DOUBLINGS);
  do {
    uint32_t seen = atomic_load_acquire(&world.acknowledgments);
    if (!is_running(mutator)) return;
    wait_on_word_for(&world.acknowledgments, seen, patience - waited);
  } while ((waited = os_now_ns() - since) < patience);
  signal_one(mutator);
}

/* It took the signal along. */
static bool has_ended(const struct mutator *mutator) { return os_signal_thread(mutator->thread_id, 0) == -ESRCH; }

static void await_safe(struct mutator *mutator) {
  if (!is_running(mutator)) return;
  uint64_t since = os_now_ns();
  unsigned refusals = 0;
  atomic_store_seq_cst(&world.awaited, mutator);
  for (;;) {
    uint32_t seen = atomic_load_acquire(&world.acknowledgments);
    if (!is_running(mutator)) return;
    if (atomic_exchange_seq_cst(&mutator->refused_to_stop, false)) {
      signal_again(mutator, refusals++);
      continue;
    }
    wait_on_word_for(&world.acknowledgments, seen, RECHECK_NS);
    if (is_running(mutator) && has_ended(mutator)) world_forget_ended(mutator);
    if (world_keep_signal()) signal_all_again();
    if (os_now_ns() - since < PATIENCE_NS) continue;
    warn("thread %u has not stopped for 2 s; does it block signal %d?", mutator->thread_id, world.signal);
    since = os_now_ns();
    signal_one(mutator);
  }
}

void world_stop(struct mutator *self) {
  ASSERT(lock_is_held_by_me(&mutator_list_lock));
  atomic_store_relaxed(&self->stop_pending, false); /* what it was asked for is over */
  atomic_store_relaxed(&world.stopper, self);
  atomic_signal_barrier();
  atomic_store_seq_cst(&world.epoch, world.epoch + 1);
  signal_running(self);
  /* The one that was signalled last comes first: when it has stopped, most others have, and this thread slept once. */
  for (struct link *link = mutator_list.last; link != NULL; link = link->prev) {
    if (mutator_from(link) != self) await_safe(mutator_from(link));
  }
  atomic_store_relaxed(&world.awaited, NULL);
}

void world_resume(void) {
  atomic_store_seq_cst(&world.epoch, world.epoch + 1);
  atomic_signal_barrier();
  atomic_store_relaxed(&world.stopper, NULL);
  wake_all(&world.epoch);
}
