#include "gc/background.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/wait.h"
#include "mutator/world.h"
#include "os/os.h"

enum { NONE, STARTING, STARTED };

struct task {
  background_task_fn *run;
  uint64_t due_ns; /* its own thread's; UINT64_MAX: when poked */
};

static struct {
  uint32_t pokes;              /* atomic; counts up; what the thread sleeps on */
  uint32_t state;              /* atomic; see background.h */
  bool enabled;                /* constant after start, as are the tasks but for their times */
  struct wait_manners manners; /* its own thread's */
  unsigned task_count;
  struct task tasks[BACKGROUND_TASKS_MAX];
} background CACHE_ALIGNED;

/* ---- in the thread ---- */

/* Calls the tasks that are due; returns the time at which the next one is. */
static uint64_t run_due(struct mutator *self) {
  uint64_t next_ns = UINT64_MAX;
  for (unsigned i = 0; i < background.task_count; i++) {
    struct task *task = &background.tasks[i];
    uint64_t now_ns = os_now_ns();
    if (task->due_ns <= now_ns) {
      mutator_leave_safe(self);
      uint64_t wait_ns = task->run(self, now_ns);
      ASSERT(self->critical == 0);
      mutator_enter_safe(self, self->stack_base); /* between slices it holds nothing */
      task->due_ns = wait_ns == 0 ? 0 : add_saturating(os_now_ns(), wait_ns);
    }
    if (task->due_ns < next_ns) next_ns = task->due_ns;
  }
  return next_ns;
}

/* Sleeps until `until_ns` or a poke. */
static void sleep_until(uint64_t until_ns, uint32_t pokes) {
  if (until_ns == UINT64_MAX) {
    wait_on_word(&background.pokes, pokes);
    return;
  }
  uint64_t now_ns = os_now_ns();
  if (until_ns > now_ns) wait_on_word_for(&background.pokes, pokes, until_ns - now_ns);
}

static void poke_tasks(void) {
  for (unsigned i = 0; i < background.task_count; i++) background.tasks[i].due_ns = 0;
}

/* Works until nothing is due, at most a batch; returns when to go on. */
static uint64_t run_batch(struct mutator *self) {
  uint64_t start_ns = os_now_ns();
  for (;;) {
    uint64_t next_ns = run_due(self), now_ns = os_now_ns();
    if (next_ns > now_ns) return next_ns;
    if (now_ns - start_ns >= BACKGROUND_BATCH_NS) return now_ns + BACKGROUND_REST_NS;
    wait_give_way(&background.manners);
  }
}

static void run(void *argument) {
  (void)argument;
  if (mutator_attach_own() != 0) {
    atomic_store_release(&background.state, (uint32_t)NONE);
    return;
  }
  struct mutator *self = mutator_self();
  int signal = 0;
  uint32_t seen = atomic_load_relaxed(&background.pokes) - 1; /* the poke that started it counts */
  mutator_enter_safe(self, self->stack_base);
  os_be_patient();
  os_take_short_turns();
  atomic_store_release(&background.state, (uint32_t)STARTED);
  for (;;) {
    uint32_t pokes = atomic_load_acquire(&background.pokes);
    if (pokes != seen) poke_tasks();
    seen = pokes;
    world_unblock_signal(&signal);
    sleep_until(run_batch(self), pokes);
  }
}

/* ---- for others ---- */

void background_register(background_task_fn *task) {
  CHECK(background.task_count < BACKGROUND_TASKS_MAX, "background: more than %d tasks", BACKGROUND_TASKS_MAX);
  background.tasks[background.task_count++] = (struct task){.run = task};
}

void background_enable(void) { background.enabled = true; }

bool background_is_started(void) { return atomic_load_acquire(&background.state) == STARTED; }

void background_poke(void) {
  atomic_add_acq_rel(&background.pokes, 1u);
  if (atomic_load_acquire(&background.state) != NONE) wake_one(&background.pokes);
}

void background_wake(void) {
  uint32_t none = NONE;
  if (!background.enabled) return;
  background_poke();
  if (atomic_load_relaxed(&background.state) == NONE &&
      atomic_cas_acq_rel(&background.state, &none, (uint32_t)STARTING) &&
      mutator_start_own(run, NULL, "midden-bg") != 0)
    atomic_store_release(&background.state, (uint32_t)NONE);
}

void background_forget(void) { atomic_store_relaxed(&background.state, (uint32_t)NONE); }
