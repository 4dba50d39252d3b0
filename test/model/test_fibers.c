/* Random operations on fibers against a naive model.
 *
 * Actors are fibers that obey: go one frame deeper, come back from one, resume another, switch to another, finish.  Each
 * frame of an actor's stack holds the only reference to a cell of its own, the model knows which frames there are, and weak
 * links tell which cells live.  After a collection the cells of every frame of an actor that can be reached live and hold
 * what they held; those of frames that returned, of actors that finished, were freed or dropped, are gone, but for the few
 * that a stale word keeps. */
#include "midden/barrier.h"
#include "span/guard.h"
#include "support/heap_test.h"

enum { ACTORS = 40, DEPTH_MAX = 12, STALE_MOST = 150, STALE_FIBERS_MOST = 5 };

enum order { GO_DEEPER, COME_BACK, LOOK, RESUME_OTHER, SWITCH_TO_OTHER, FINISH };

struct cell {
  uint64_t value;
  struct cell *self;
};

/* Memory of malloc: nothing here is seen by the collector. */
struct model {
  int depth[ACTORS]; /* frames; -1: no fiber */
  uint64_t value[ACTORS][DEPTH_MAX];
  void *weak[ACTORS][DEPTH_MAX]; /* NULL once the cell of that frame is dead, if there ever was one */
  struct rng rng;
  size_t orders, collections, stale, stale_sum;
};

static struct midden_fiber *fibers[ACTORS]; /* a root */
static struct model *model;
static enum order order; /* for the next fiber that runs */
static size_t other;     /* whom to resume or to switch to */

/* ---- actors ---- */

NOINLINE_TEST static struct cell *cell_new(size_t actor, int frame) {
  struct cell *cell = midden_alloc(sizeof(*cell));
  REQUIRE(cell != NULL, "out of memory");
  cell->value = model->value[actor][frame];
  cell->self = cell;
  void **weak = &model->weak[actor][frame];
  *weak = (void *)test_hide(cell);
  int error = midden_weak_link(weak, cell, MIDDEN_WEAK_AFTER_FINALIZERS);
  REQUIRE(error == 0 || error == -EEXIST, "midden_weak_link: %d", error);
  return cell;
}

static void check_cell(const struct cell *cell, size_t actor, int frame) {
  REQUIRE(cell->value == model->value[actor][frame] && cell->self == cell, "frame %d of actor %zu lost its cell", frame,
          actor);
}

static void visit_other(bool by_switch) {
  size_t target = other;
  order = LOOK;
  int error =
      by_switch ? midden_fiber_switch(fibers[target], NULL, NULL) : midden_fiber_resume(fibers[target], NULL, NULL);
  REQUIRE(error == 0, "actor %zu: %d", target, error);
}

/* Obeys until the frame is to be left. */
NOINLINE_TEST static void frame_run(size_t actor, int frame) {
  struct cell *cell = cell_new(actor, frame);
  midden_fiber_yield(NULL);
  for (;;) {
    enum order mine = order;
    check_cell(cell, actor, frame);
    if (mine == COME_BACK) break;
    if (mine == FINISH) midden_fiber_finish(NULL, NULL);
    if (mine == GO_DEEPER) frame_run(actor, frame + 1);
    if (mine == RESUME_OTHER || mine == SWITCH_TO_OTHER) visit_other(mine == SWITCH_TO_OTHER);
    /* Who was switched away from hears its next order as it comes back; who came back from a frame is silent till then. */
    if (mine != SWITCH_TO_OTHER) midden_fiber_yield(NULL);
  }
}

static void *actor_run(void *argument) {
  frame_run((uintptr_t)argument, 0);
  return NULL;
}

/* ---- orders ---- */

static void give(size_t actor, enum order given) {
  order = given;
  int error = midden_fiber_resume(fibers[actor], NULL, NULL);
  REQUIRE(error == 0, "actor %zu: %d", actor, error);
  model->orders++;
}

static void hire(size_t actor) {
  model->value[actor][0] = rng_next(&model->rng);
  midden_store(&fibers[actor], midden_fiber_new(actor_run, (void *)actor, rng_below(&model->rng, 3) * (40 << 10)));
  REQUIRE(fibers[actor] != NULL, "no fiber");
  give(actor, LOOK);
  model->depth[actor] = 1;
}

static void deepen(size_t actor) {
  if (model->depth[actor] == DEPTH_MAX) return;
  model->value[actor][model->depth[actor]++] = rng_next(&model->rng);
  give(actor, GO_DEEPER);
}

static void shorten(size_t actor) {
  give(actor, COME_BACK);
  bool ended = --model->depth[actor] == 0;
  enum midden_fiber_state state = midden_fiber_state(fibers[actor]);
  REQUIRE(state == (ended ? MIDDEN_FIBER_FINISHED : MIDDEN_FIBER_SUSPENDED), "actor %zu in state %d", actor, state);
  if (ended) {
    midden_store(&fibers[actor], NULL);
    model->depth[actor] = -1;
  }
}

static void dismiss(size_t actor) {
  switch (rng_below(&model->rng, 3)) {
    case 0:
      give(actor, FINISH);
      REQUIRE(midden_fiber_state(fibers[actor]) == MIDDEN_FIBER_FINISHED, "actor %zu has not finished", actor);
      break;
    case 1:
      REQUIRE(midden_fiber_free(fibers[actor]) == 0, "midden_fiber_free");
      break;
    default: /* is found out */
      break;
  }
  midden_store(&fibers[actor], NULL);
  model->depth[actor] = -1;
}

static void visit(size_t actor) {
  other = rng_below(&model->rng, ACTORS);
  if (other == actor || model->depth[other] < 0) return;
  give(actor, rng_one_in(&model->rng, 2) ? RESUME_OTHER : SWITCH_TO_OTHER);
}

/* ---- checking ---- */

static void check_weak(size_t actor, int frame) {
  bool expected = frame < model->depth[actor];
  bool lives = model->weak[actor][frame] != NULL;
  REQUIRE(lives || !expected, "the cell of frame %d of actor %zu died", frame, actor);
  model->stale += lives && !expected;
}

NOINLINE_TEST static void check_all(void) {
  test_collect_clean();
  model->stale = 0;
  for (size_t actor = 0; actor < ACTORS; actor++) {
    for (int frame = 0; frame < DEPTH_MAX; frame++) check_weak(actor, frame);
  }
  model->collections++;
  model->stale_sum += model->stale;
  /* The frames that allocate guarded objects are larger, and leave more stale words. */
  REQUIRE(model->stale <= (size_t)STALE_MOST * (guard_active ? 3 : 1), "%zu cells live that nothing refers to",
          model->stale);
  if (rng_one_in(&model->rng, 20)) midden_verify();
  if (rng_one_in(&model->rng, 20)) midden_release_memory();
}

NOINLINE_TEST static void step(void) {
  size_t actor = rng_below(&model->rng, ACTORS);
  if (model->depth[actor] < 0) {
    hire(actor);
    return;
  }
  size_t choice = rng_below(&model->rng, 20);
  if (choice < 9) {
    deepen(actor);
  } else if (choice < 15) {
    shorten(actor);
  } else if (choice < 19) {
    visit(actor);
  } else {
    dismiss(actor);
  }
}

int main(void) {
  struct rng rng = test_start("test_fibers");
  size_t steps = test_steps(20000);
  alarm(240);
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  model = calloc(1, sizeof(*model));
  REQUIRE(model != NULL, "the test itself is out of memory");
  model->rng = rng;
  for (size_t actor = 0; actor < ACTORS; actor++) model->depth[actor] = -1;
  for (size_t i = 0; i < steps; i++) {
    step();
    if (rng_one_in(&model->rng, 50)) check_all();
  }
  for (size_t actor = 0; actor < ACTORS; actor++) {
    midden_store(&fibers[actor], NULL);
    model->depth[actor] = -1;
  }
  check_all();
  REQUIRE(test_stats().fibers <= STALE_FIBERS_MOST, "%zu fibers are left", test_stats().fibers);
  printf("test_fibers: %zu orders, %zu collections, %.2f stale cells on average\n", model->orders, model->collections,
         (double)model->stale_sum / (double)model->collections);
  return 0;
}
