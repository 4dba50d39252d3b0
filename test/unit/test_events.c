/* What the event callback hears, in each mode: every step in its order, and nothing more where it disables collections at the first
 * one.  Then nothing is collected either, and the next collection is whole.  A program may
 * fork in it, and the child goes on.  (In dirty-page mode it waited for ever for a lock of the parent's.)  And a thread is not cancelled
 * in its callbacks. */
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

static void check_list(const struct node *first) {
  size_t left = NODES;
  for (const struct node *node = first; node != NULL; node = node->next)
    REQUIRE(node->number == --left, "node %zu is damaged", left);
  REQUIRE(left == 0, "%zu nodes are lost", left);
}

static void collect_and_hear(const char *expected, uint64_t collections) {
  uint64_t before = test_stats().collections;
  memset(seen, 0, sizeof seen);
  midden_collect();
  REQUIRE(strcmp(seen, expected) == 0, "it heard %s, not %s", seen, expected);
  REQUIRE(test_stats().collections == before + collections, "%u collections",
          (unsigned)(test_stats().collections - before));
}

static void start_in(enum midden_mode mode) {
  struct midden_options options = {
      .size = sizeof options, .mode = mode, .percent = -1, .idle_collect_ms = -1, .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
}

static int hear(void *mode) {
  /* In barrier mode nothing is stopped. */
  const char *all = *(const enum midden_mode *)mode == MIDDEN_MODE_BARRIER ? "034789" : "0123456789";
  start_in(*(const enum midden_mode *)mode);
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
  check_list(first);
  return 0;
}

/* ---- a fork ---- */

static int fork_at = -1;
static pid_t child;

static void fork_at_event(enum midden_event event, void *argument) {
  (void)argument;
  if ((int)event != fork_at) return;
  fork_at = -1;
  child = fork();
  REQUIRE(child >= 0, "fork");
}

static void go_on_in_child(const struct node *first, uint64_t before) {
  alarm(SECONDS);
  struct midden_stats stats = test_stats();
  REQUIRE(stats.threads == 1, "%zu threads", stats.threads);
  REQUIRE(stats.collections >= before && stats.collections <= before + 1, "%" PRIu64 " collections", stats.collections);
  uint64_t since = stats.collections;
  midden_verify();
  for (int i = 0; i < 2; i++) midden_collect();
  REQUIRE(test_stats().collections == since + 2, "%" PRIu64 " collections", test_stats().collections - since);
  check_list(first);
  midden_verify();
  _exit(0);
}

static int fork_in_callback(void *mode) {
  static const int events[] = {MIDDEN_EVENT_START,       MIDDEN_EVENT_STOPPING,  MIDDEN_EVENT_RESUMED,
                               MIDDEN_EVENT_SWEEP_START, MIDDEN_EVENT_SWEEP_END, MIDDEN_EVENT_END};
  start_in(*(const enum midden_mode *)mode);
  struct node *volatile first = build();
  midden_set_event_callback(fork_at_event, NULL);
  for (size_t i = 0; i < TEST_COUNT_OF(events); i++) {
    uint64_t before = test_stats().collections;
    fork_at = events[i];
    child = -1;
    midden_collect();
    if (child == 0) go_on_in_child(first, before);
    REQUIRE(child > 0, "event %d was not heard of", events[i]);
    int status;
    while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR, "waitpid");
    REQUIRE(status == 0, "event %d: the child ends with %#x", events[i], (unsigned)status);
    REQUIRE(test_stats().collections == before + 1, "the parent has not collected");
  }
  midden_verify();
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
    if (modes[i] != MIDDEN_MODE_BARRIER) test_child_succeeds(names[i], fork_in_callback, &modes[i], SECONDS);
  }
  return 0;
}
