/* Dirty-page mode where the system will not tell what is written, as in most containers: a filter of system calls forbids
 * userfaultfd; or /proc is not there, of which a filter of openat makes the impression.  The world is stopped for all of each marking, which is said once, and nothing is lost. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "alloc/account.h"
#include "base/atomic.h"
#include "gc/collector.h"
#include "gc/dirty.h"
#include "os/os.h"
#include "support/heap_test.h"

enum { SECONDS = 60, NODES = 200000, COLLECTIONS = 5 };

#define PAUSE_NS UINT64_C(2000000000) /* the driver waits for half of it */

struct node {
  struct node *next;
  size_t number;
};

static size_t concurrent_cycles, stopped_cycles; /* atomic */

static void note_report(const struct collector_report *report) {
  atomic_add_relaxed(report->concurrent ? &concurrent_cycles : &stopped_cycles, (size_t)1);
}

static bool forbid(uint32_t number, uint32_t error) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {TEST_COUNT_OF(filter), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static struct node *build(void) {
  struct node *first = NULL;
  for (size_t i = 0; i < NODES; i++) {
    struct node *node = midden_alloc(sizeof *node);
    *node = (struct node){first, i};
    first = node;
    midden_alloc(64);
  }
  return first;
}

struct refusal {
  uint32_t number, error;
};

static int collect_refused(void *argument) {
  const struct refusal *refusal = argument;
  if (!forbid(refusal->number, refusal->error)) return TEST_SKIPPED;
  struct midden_options options = {.size = sizeof options, .mode = MIDDEN_MODE_DIRTY, .brief_stop_us = -1, .trace = 1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  collector_reporter = note_report;
  struct node *volatile first = build();
  for (int i = 0; i < COLLECTIONS; i++) midden_collect();
  midden_verify();
  size_t left = NODES;
  for (const struct node *node = first; node != NULL; node = node->next)
    REQUIRE(node->number == --left, "node %zu is damaged", left);
  REQUIRE(left == 0, "%zu nodes are lost", left);
  REQUIRE(!dirty_is_possible(), "it was not refused");
  REQUIRE(stopped_cycles >= COLLECTIONS && concurrent_cycles == 0, "%zu cycles stopped the world, %zu did not",
          stopped_cycles, concurrent_cycles);
  return 0;
}

/* ---- the end of a cycle that nobody comes for ---- */

static bool is_in_cycle; /* atomic */

static void ignore(enum midden_event event, void *argument) { (void)event, (void)argument; }

/* Asked by the driver at the beginning of a cycle. */
static bool take_time(const char *name, void *start, size_t bytes) {
  (void)name, (void)start, (void)bytes;
  if (!atomic_exchange_acq_rel(&is_in_cycle, true)) usleep(50000);
  return true;
}

/* A program with callbacks asks for a cycle, and allocates no more. */
static bool ask_for_cycle(void) {
  if (!forbid(__NR_userfaultfd, EPERM)) return false;
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_DIRTY, .brief_stop_us = -1, .background = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  midden_set_event_callback(ignore, NULL);
  midden_set_module_filter(take_time);
  while (!account_collection_is_due()) midden_alloc(64);
  collector_collect(COLLECT_HEAP, NULL, NULL);
  for (int i = 0; i < 10000 && !atomic_load_acquire(&is_in_cycle); i++) usleep(1000);
  REQUIRE(atomic_load_acquire(&is_in_cycle), "no cycle was asked for");
  return true;
}

static int collect_later(void *argument) {
  (void)argument;
  if (!ask_for_cycle()) return TEST_SKIPPED;
  for (uint64_t end_ns = os_now_ns() + PAUSE_NS; os_now_ns() < end_ns;) usleep(1000);
  for (int i = 0; i < COLLECTIONS; i++) midden_collect();
  return 0;
}

static int collect_in_child(void *argument) {
  (void)argument;
  for (int i = 0; i < COLLECTIONS; i++) midden_collect();
  return 0;
}

static int fork_meanwhile(void *argument) {
  if (!ask_for_cycle()) return TEST_SKIPPED;
  test_child_succeeds("a child of it", collect_in_child, argument, SECONDS);
  for (int i = 0; i < COLLECTIONS; i++) midden_collect();
  return 0;
}

static void refused_with(uint32_t number, uint32_t error) {
  static const char said[] = "does not tell which pages were written";
  struct refusal refusal = {number, error};
  struct test_outcome outcome = test_child(collect_refused, &refusal, SECONDS);
  if (WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == TEST_SKIPPED) exit(TEST_SKIPPED);
  REQUIRE(outcome.status == 0, "system call %u, error %u: status 0x%x: %s", number, error, (unsigned)outcome.status,
          outcome.message);
  const char *first = strstr(outcome.message, said);
  REQUIRE(first != NULL && strstr(first + 1, said) == NULL, "it was not said once: %s", outcome.message);
}

int main(void) {
  test_start("test_dirty_refused");
  refused_with(__NR_userfaultfd, ENOSYS);
  refused_with(__NR_userfaultfd, EPERM);
  refused_with(__NR_openat, ENOENT);
  refused_with(__NR_openat, EACCES);
  test_child_succeeds("a cycle that nobody ends", collect_later, NULL, SECONDS);
  test_child_succeeds("a fork before a cycle's end", fork_meanwhile, NULL, SECONDS);
  return 0;
}
