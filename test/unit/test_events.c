/* What the event callback hears, in each mode: every step in its order, and nothing more where it disables collections at the first
 * one.  Then nothing is collected either, and the next collection is whole.  And a thread is not cancelled in its callbacks. */
#include <pthread.h>

#include "support/heap_test.h"

/* As many as are marked beside the program in dirty-page mode. */
enum { NODES = 300000 };
enum { SECONDS = 60, SEEN_MAX = 32 };

struct node {
  struct node *next;
  size_t number;
};

static char seen[SEEN_MAX]; /* a digit for each event */
static bool disables;

static void note(enum midden_event event, void *argument) {
  (void)argument;
  size_t count = strlen(seen);
  if (count + 1 < sizeof seen) seen[count] = (char)('0' + event);
  if (disables && event == MIDDEN_EVENT_START) midden_disable();
}

static struct node *build(void) {
  struct node *first = NULL;
  for (size_t i = 0; i < NODES; i++) {
    struct node *node = midden_alloc(sizeof *node);
    *node = (struct node){first, i};
    first = node;
  }
  return first;
}

static void collect_and_hear(const char *expected, uint64_t collections) {
  uint64_t before = test_stats().collections;
  memset(seen, 0, sizeof seen);
  midden_collect();
  REQUIRE(strcmp(seen, expected) == 0, "it heard %s, not %s", seen, expected);
  REQUIRE(test_stats().collections == before + collections, "%u collections",
          (unsigned)(test_stats().collections - before));
}

static int hear(void *mode) {
  /* In barrier mode nothing is stopped. */
  const char *all = *(const enum midden_mode *)mode == MIDDEN_MODE_BARRIER ? "034789" : "0123456789";
  struct midden_options options = {.size = sizeof options,
                                   .mode = *(const enum midden_mode *)mode,
                                   .percent = -1,
                                   .idle_collect_ms = -1,
                                   .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  struct node *volatile first = build();
  midden_set_event_callback(note, NULL);
  collect_and_hear(all, 1);
  for (int i = 0; i < 3; i++) {
    disables = true;
    collect_and_hear("0", 0);
    disables = false;
    midden_enable();
    midden_verify();
    collect_and_hear(all, 1);
  }
  size_t left = NODES;
  for (const struct node *node = first; node != NULL; node = node->next)
    REQUIRE(node->number == --left, "node %zu is damaged", left);
  REQUIRE(left == 0, "%zu nodes are lost", left);
  return 0;
}

/* ---- a thread that is to be cancelled ---- */

/* As most calls of the C library are that write or wait. */
static void be_cancellation_point(enum midden_event event, void *argument) {
  (void)event, (void)argument;
  pthread_testcancel();
}

static void be_cancellation_point_for_roots(struct midden_tracer *tracer, void *argument) {
  (void)tracer, (void)argument;
  pthread_testcancel();
}

static bool has_collected;

static void *collect_when_cancelled(void *unused) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  pthread_cancel(pthread_self());
  midden_collect();
  has_collected = true;
  pthread_testcancel();
  return unused;
}

static int cancel(void *mode) {
  struct midden_options options = {
      .size = sizeof options, .mode = *(const enum midden_mode *)mode, .percent = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  struct node *volatile first = build();
  midden_set_event_callback(be_cancellation_point, NULL);
  midden_set_root_callback(be_cancellation_point_for_roots, NULL);
  pthread_t thread;
  void *result;
  REQUIRE(pthread_create(&thread, NULL, collect_when_cancelled, NULL) == 0, "pthread_create");
  midden_blocking_enter();
  pthread_join(thread, &result);
  midden_blocking_leave();
  REQUIRE(has_collected, "it was cancelled in the collection");
  REQUIRE(result == PTHREAD_CANCELED, "it was not cancelled behind it");
  midden_collect();
  REQUIRE(first->number == NODES - 1, "the list is damaged");
  return 0;
}

int main(void) {
  test_start("test_events");
  static enum midden_mode modes[] = {MIDDEN_MODE_STW, MIDDEN_MODE_BARRIER, MIDDEN_MODE_DIRTY};
  static const char *const names[] = {"world stopped", "barrier mode", "dirty-page mode"};
  for (size_t i = 0; i < TEST_COUNT_OF(modes); i++) {
    test_child_succeeds(names[i], hear, &modes[i], SECONDS);
    test_child_succeeds(names[i], cancel, &modes[i], SECONDS);
  }
  return 0;
}
