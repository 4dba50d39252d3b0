/* The dispatcher: an attached thread of the library that runs finalizers and cleanups, and sleeps while there are none.
 *
 * One word, `state`, says what there is of it; `work` is the word that it sleeps on, counted up by whoever has news.
 *
 *     state      who steps                                 to
 *     NONE       midden_dispatcher_start                   RUNNING
 *     RUNNING    midden_dispatcher_stop                    STOPPING
 *     STOPPING   the dispatcher, its last step             NONE (release; stop acquires it)
 *     any        a fork's child                            NONE
 *
 * The dispatcher reads `work` before it looks whether calls are ready, and sleeps only if `work` is still the same: what
 * comes in between wakes it.  It counts as stopped while it sleeps.
 *
 * A fork's child has no dispatcher, unless the dispatcher itself forked, in a finalizer: then its copy goes on as a thread of
 * the program and ends when that finalizer has returned, as the number of the dispatcher tells it. */
#include "api/dispatcher.h"

#include <errno.h>

#include "api/specials.h"
#include "api/start.h"
#include "base/atomic.h"
#include "base/check.h"
#include "base/wait.h"
#include "gc/collector.h"
#include "midden/midden.h"
#include "mutator/mutator.h"
#include "os/os.h"

enum { NONE, RUNNING, STOPPING };
enum { END_POLL_NS = 10000000 };

static struct {
  uint32_t state;  /* atomic; see above */
  uint32_t work;   /* atomic */
  uint32_t number; /* atomic; of the dispatcher that runs; a fork counts it up */
  uint32_t thread; /* atomic; the kernel's name of the dispatcher */
} dispatcher;

static bool is_mine(uint32_t number) { return atomic_load_acquire(&dispatcher.number) == number; }

static bool goes_on(uint32_t number) { return is_mine(number) && atomic_load_acquire(&dispatcher.state) == RUNNING; }

static void *sleep_until_work(void *argument) {
  wait_on_word(&dispatcher.work, (uint32_t)(uintptr_t)argument);
  return NULL;
}

static void dispatch(void *argument) {
  uint32_t number = (uint32_t)(uintptr_t)argument;
  if (midden_thread_attach() == 0) {
    atomic_store_release(&dispatcher.thread, os_thread_id());
    while (goes_on(number)) {
      uint32_t work = atomic_load_acquire(&dispatcher.work);
      if (midden_finalizers_run(1) != 0 || !goes_on(number)) continue;
      midden_blocking_call(sleep_until_work, (void *)(uintptr_t)work);
    }
    midden_thread_detach();
  }
  if (!is_mine(number)) return;
  atomic_store_release(&dispatcher.thread, 0u);
  atomic_store_release(&dispatcher.state, (uint32_t)NONE);
  wake_all(&dispatcher.state);
}

static void wake(void) {
  atomic_add_acq_rel(&dispatcher.work, 1u);
  wake_one(&dispatcher.work);
}

int midden_dispatcher_start(void) {
  start_self();
  uint32_t none = NONE;
  if (!atomic_cas_acq_rel(&dispatcher.state, &none, (uint32_t)RUNNING)) return -EALREADY;
  specials_listen();
  uintptr_t number = atomic_load_relaxed(&dispatcher.number);
  int error = os_start_program_thread(dispatch, (void *)number, "midden-final");
  if (error != 0) atomic_store_release(&dispatcher.state, (uint32_t)NONE);
  return error;
}

/* Handlers of signals wait while this thread counts as stopped, but not for as long as a finalizer may run. */
static void wait_for_end(uintptr_t stack_pointer, void *self) {
  while (atomic_load_acquire(&dispatcher.state) == STOPPING)
    mutator_wait_on_word(self, stack_pointer, &dispatcher.state, STOPPING, END_POLL_NS);
}

int midden_dispatcher_stop(void) {
  struct mutator *self = start_self();
  CHECK(!self->is_blocked, "midden_dispatcher_stop: this thread is blocking");
  CHECK(!collector_is_mine(self), "midden_dispatcher_stop: called in a callback, or inside midden_locked_call");
  if (atomic_load_acquire(&dispatcher.thread) == os_thread_id()) return -EDEADLK;
  uint32_t running = RUNNING;
  bool stopping = atomic_cas_acq_rel(&dispatcher.state, &running, (uint32_t)STOPPING);
  if (!stopping && running == NONE) return -ESRCH;
  wake();
  os_call_with_registers(wait_for_end, self);
  return 0;
}

bool dispatcher_wake(void) {
  if (atomic_load_acquire(&dispatcher.state) != RUNNING) return false;
  wake();
  return true;
}

void dispatcher_forked(void) {
  atomic_add_acq_rel(&dispatcher.number, 1u);
  atomic_store_relaxed(&dispatcher.thread, 0u);
  atomic_store_release(&dispatcher.state, (uint32_t)NONE);
}
