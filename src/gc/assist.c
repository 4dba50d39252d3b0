#include "gc/assist.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/memcheck.h"
#include "base/wait.h"
#include "gc/concurrent.h"
#include "gc/driver.h"
#include "gc/loan.h"
#include "gc/pacer_cycle.h"
#include "gc/slowing.h"
#include "gc/work.h"
#include "os/os.h"

enum {
  WORKER_MOST_BYTES = 256 << 10, /* of a worker, at once */
  WORKER_LEAST_BYTES = 8 << 10,  /* of one that rests between: at least, or what takes as long as the next two say */
  WORKER_NS = 50000,
  WORKER_BRIEF_NS = 25000,      /* where the program's threads mark in its place, and run where it does */
  ASSIST_MOST_BYTES = 16 << 10, /* of a thread, at once; less where that takes longer than ASSIST_NS */
  ASSIST_LEAST_BYTES = 2 << 10,
  ASSIST_NS = 24000,
  ASSIST_PAY_BYTES = 8 << 10, /* of a large object are worth a slice each */
  SLOW_NS = 16000,            /* for a KiB: it lost the processor */
  PACE_SHIFT = 3,             /* the last slices count for so much of ns_per_kib */
  DEBT_LEAST_BYTES = 8 << 10, /* less is not worth taking work for */
  SHARE_NS = 4000000,         /* how often the workers' share is thought over */
  REST_LEAST_NS = 100000,     /* shorter sleeps are longer than asked for */
  RATIO_SHIFT = 10,
  ACTIVE_SPINS = 2000,
  ACTIVE_NS = 100000
};

bool assist_is_due;

/* The driver's, but for what is atomic. */
static NOT_A_ROOT struct {
  struct pacer_cycle pacers[2]; /* of full cycles, and of minor ones */
  struct pacer_cycle *pacer;    /* of the running cycle */
  struct pacer_share share;
  uint64_t process_cpu_ns; /* of the process when the cycle began */
  uint64_t worker_cpu_ns;  /* of all workers in this cycle */
  size_t background_bytes; /* scanned by them */
  uint64_t owed_rest_ns;   /* by the only worker */
  double turn;             /* of the last of several; it works when this is 1 */
  uint64_t shared_ns;      /* when the share was thought over, and what the program had done until then */
  uint64_t shared_program_ns;
  size_t shared_live_bytes;
  uint64_t withheld_bytes; /* see struct pacer_progress */
  uint64_t withheld_ns;
  int64_t credit_bytes;   /* atomic; scanned in the background, and not yet drawn on */
  uint32_t ratio;         /* atomic; bytes owed for one that is allocated, times 1 << RATIO_SHIFT */
  size_t assist_bytes;    /* atomic; scanned by threads */
  uint64_t assist_ns;     /* atomic; processor time of that */
  uint32_t ns_per_kib;    /* atomic; of late, of threads; kept from cycle to cycle */
  uint32_t payers;        /* atomic; threads that have assisted in this cycle */
  uint32_t payers_before; /* in the last */
  uint32_t active;        /* atomic; threads that assist at this moment, and may hold the last grey objects */
  uint32_t unfinished;    /* atomic; workers of an epoch that used up their slices */
  uint32_t resting;       /* atomic; 1: the only worker, or the driver at the end, sleeps on it */
} assist CACHE_ALIGNED;

/* ---- figures ---- */

/* Processor time of the program since the cycle began, assists included. */
static uint64_t program_ns(void) {
  uint64_t all_ns = os_process_cpu_ns() - assist.process_cpu_ns;
  return all_ns > assist.worker_cpu_ns ? all_ns - assist.worker_cpu_ns : 0;
}

static struct pacer_progress progress(void) {
  uint64_t assist_ns = atomic_load_relaxed(&assist.assist_ns), all_ns = program_ns();
  return (struct pacer_progress){.live_bytes = atomic_load_relaxed(&account_live_bytes),
                                 .background_bytes = assist.background_bytes,
                                 .assist_bytes = atomic_load_relaxed(&assist.assist_bytes),
                                 .assist_ns = assist_ns,
                                 .mutator_ns = all_ns > assist_ns ? all_ns - assist_ns : 0,
                                 .withheld_bytes = assist.withheld_bytes,
                                 .withheld_ns = assist.withheld_ns,
                                 .rested_ns = slowing_rested_ns()};
}

size_t assist_scanned_bytes(void) { return assist.background_bytes + atomic_load_relaxed(&assist.assist_bytes); }

static void publish_ratio(void) {
  double ratio = pacer_cycle_assist_ratio(assist.pacer);
  atomic_store_relaxed(&assist.ratio, (uint32_t)(ratio * (1 << RATIO_SHIFT)));
}

static void limit_credit(void) {
  int64_t most = (int64_t)pacer_cycle_credit_most(assist.pacer), credit = atomic_load_relaxed(&assist.credit_bytes);
  while (credit > most && !atomic_cas_relaxed(&assist.credit_bytes, &credit, most)) {
  }
}

/* ---- the cycle ---- */

/* Until it ends the trigger is out of reach: nobody asks for another. */
void assist_begin(bool minor) {
  assist.pacer = &assist.pacers[minor];
  pacer_cycle_begin(assist.pacer, atomic_load_relaxed(&account_live_bytes), collector.totals.goal_bytes);
  atomic_store_relaxed(&account_trigger_bytes, SIZE_MAX);
  if (assist.share.workers == 0)
    pacer_share_adjust(&assist.share, os_processor_count(), atomic_load_relaxed(&collector.markers),
                       (struct pacer_load){.mutator_cpus = os_processor_count()});
  assist.process_cpu_ns = os_process_cpu_ns();
  assist.worker_cpu_ns = assist.background_bytes = assist.owed_rest_ns = assist.shared_program_ns = 0;
  assist.withheld_bytes = assist.withheld_ns = 0;
  assist.payers_before = atomic_exchange_acq_rel(&assist.payers, 0u);
  assist.shared_ns = os_now_ns();
  assist.shared_live_bytes = atomic_load_relaxed(&account_live_bytes);
  atomic_store_relaxed(&assist.assist_bytes, (size_t)0);
  atomic_store_relaxed(&assist.assist_ns, UINT64_C(0));
  atomic_store_relaxed(&assist.credit_bytes, (int64_t)pacer_cycle_credit_most(assist.pacer));
  publish_ratio();
}

void assist_end(struct collector_report *report) {
  struct pacer_progress end = progress();
  pacer_cycle_end(assist.pacer, &end, report->reason != COLLECT_HEAP);
  report->assisted_bytes = end.assist_bytes;
  report->assist_ns = end.assist_ns;
}

void assist_note_stopped(size_t scanned_bytes) { pacer_cycle_stopped(&assist.pacers[0], scanned_bytes); }

size_t assist_trigger(size_t goal_bytes, size_t live_bytes) {
  const struct pacer_cycle *next = &assist.pacers[generation_wants_minor(&collector.generation)];
  return pacer_cycle_trigger(next, goal_bytes, live_bytes);
}

void assist_forget(void) {
  atomic_store_relaxed(&assist_is_due, false);
  atomic_store_relaxed(&account_trigger_bytes,
                       assist_trigger(collector.totals.goal_bytes, collector.totals.marked_bytes));
}

/* ---- the pace ---- */

/* A large heap's objects come from memory, at a fifth of the pace that caches allow. */
static size_t slice_bytes(uint32_t ns, size_t least_bytes, size_t most_bytes) {
  uint32_t ns_per_kib = atomic_load_relaxed(&assist.ns_per_kib);
  if (ns_per_kib == 0) return most_bytes;
  return max_size(min_size(((size_t)ns << 10) / ns_per_kib, most_bytes), least_bytes);
}

/* Updates of other threads may be lost, which say the same. */
static void note_pace(size_t scanned_bytes, uint64_t ns) {
  if (scanned_bytes < ASSIST_LEAST_BYTES / 2) return;
  uint32_t before = atomic_load_relaxed(&assist.ns_per_kib),
           now = (uint32_t)min_size(ns * 1024 / scanned_bytes, SLOW_NS);
  atomic_store_relaxed(&assist.ns_per_kib, before + (now >> PACE_SHIFT) - (before >> PACE_SHIFT));
}

/* ---- the workers ---- */

/* One slice by one worker; what it has left goes back to the pool. */
static void work_job(void *argument, unsigned marker) {
  struct midden_tracer *tracer = &collector.tracers[marker];
  uint64_t cpu_ns = cycle_begin_share(marker);
  bool done = mark_drain_some(tracer, *(const size_t *)argument);
  mark_publish(tracer);
  if (!done) atomic_add_relaxed(&assist.unfinished, 1u);
  cycle_end_share(marker, cpu_ns);
}

static size_t scanned_by_workers(const struct cycle *cycle) {
  size_t bytes = 0;
  for (unsigned i = 0; i < cycle->report.markers; i++) bytes += collector.tracers[i].scanned_bytes;
  return bytes;
}

static uint64_t cpu_of_workers(const struct cycle *cycle) {
  uint64_t ns = 0;
  for (unsigned i = 0; i < cycle->report.markers; i++) ns += collector.marker[i].cpu_ns;
  return ns;
}

static void count_withheld(uint64_t passed_ns) {
  uint64_t ns = (uint64_t)((double)passed_ns * assist.share.withheld_cpus);
  uint32_t ns_per_kib = atomic_load_relaxed(&assist.ns_per_kib);
  assist.withheld_ns += ns;
  if (ns_per_kib != 0) assist.withheld_bytes += ns * 1024 / ns_per_kib;
}

static double owed_ns(size_t live_bytes) {
  if (live_bytes <= assist.shared_live_bytes) return 0;
  double bytes = (double)(live_bytes - assist.shared_live_bytes) * pacer_cycle_assist_ratio(assist.pacer);
  return bytes / 1024 * atomic_load_relaxed(&assist.ns_per_kib);
}

/* While somebody waits for the cycle, processors are idle that the program wants otherwise. */
static void think_over_share(void) {
  uint64_t now_ns = os_now_ns(), passed_ns = now_ns - assist.shared_ns;
  if (passed_ns < SHARE_NS) return;
  count_withheld(passed_ns);
  uint64_t program = program_ns();
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes);
  struct pacer_load load = {.mutator_cpus = (double)(program - assist.shared_program_ns) / (double)passed_ns,
                            .owed_cpus = owed_ns(live_bytes) / (double)passed_ns,
                            .payers = (unsigned)max_size(atomic_load_relaxed(&assist.payers), assist.payers_before),
                            .is_hurried = collector.dirty};
  if (!driver_is_urgent())
    pacer_share_adjust(&assist.share, os_processor_count(), atomic_load_relaxed(&collector.markers), load);
  assist.shared_ns = now_ns;
  assist.shared_program_ns = program;
  assist.shared_live_bytes = live_bytes;
}

/* Somebody waits for the cycle; or threads that allocate rest, and leave their processors idle. */
static bool is_hurried(void) { return driver_is_urgent() || slowing_is_due(); }

/* Whether the driver is the only worker, and has a part of its time only. */
static bool rests(void) { return !is_hurried() && assist.share.workers == 1 && assist.share.duty < 1; }

/* The last worker has a part of its time only: it takes part in that part of the epochs. */
static unsigned workers_of_epoch(const struct cycle *cycle) {
  if (is_hurried()) return cycle->report.markers;
  unsigned workers = (unsigned)min_size(assist.share.workers, cycle->report.markers);
  if (workers == 1) return 1;
  assist.turn += assist.share.duty;
  if (assist.turn < 1) return workers - 1;
  assist.turn -= 1;
  return workers;
}

void assist_run(struct cycle *cycle, void (*job)(void *argument, unsigned marker), void *argument) {
  markers_run_beside(workers_of_epoch(cycle), job, argument);
  assist.worker_cpu_ns = cpu_of_workers(cycle);
  think_over_share();
  if (!rests()) markers_give_way(0);
}

/* A thread that is to run where the only worker does waits for its slice.  Not so short in dirty-page mode: cycles would be
 * longer, and cost the program more in faults than it waits. */
static size_t worker_slice_bytes(void) {
  if (!rests() || collector.dirty) return WORKER_MOST_BYTES;
  uint32_t ns = assist.share.withheld_cpus > 0 ? WORKER_BRIEF_NS : WORKER_NS;
  return slice_bytes(ns, WORKER_LEAST_BYTES, WORKER_MOST_BYTES);
}

/* A slice by each worker; true if one of them found nothing more to do, all the others too. */
static bool run_epoch(struct cycle *cycle) {
  work_keep_reserve();
  size_t bytes = worker_slice_bytes();
  size_t before_bytes = collector.tracers[0].scanned_bytes;
  uint64_t before_ns = collector.marker[0].cpu_ns;
  atomic_store_relaxed(&assist.unfinished, 0u);
  assist_run(cycle, work_job, &bytes);
  note_pace(collector.tracers[0].scanned_bytes - before_bytes, collector.marker[0].cpu_ns - before_ns);
  size_t scanned_bytes = scanned_by_workers(cycle);
  atomic_add_relaxed(&assist.credit_bytes, (int64_t)(scanned_bytes - assist.background_bytes));
  assist.background_bytes = scanned_bytes;
  return atomic_load_relaxed(&assist.unfinished) == 0;
}

/* At most; less where a thread has found nothing more to mark. */
static void sleep_for(uint64_t ns) {
  atomic_store_relaxed(&assist.resting, 1u);
  wait_on_word_for(&assist.resting, 1, ns);
  atomic_store_relaxed(&assist.resting, 0u);
}

static void rest(uint64_t worked_ns) {
  if (!rests()) {
    assist.owed_rest_ns = 0;
    return;
  }
  double duty = assist.share.duty;
  assist.owed_rest_ns += (uint64_t)((double)worked_ns * (1 - duty) / duty);
  if (assist.owed_rest_ns < REST_LEAST_NS) return;
  uint64_t start_ns = os_now_ns();
  sleep_for(assist.owed_rest_ns);
  uint64_t rested_ns = os_now_ns() - start_ns;
  assist.owed_rest_ns = assist.owed_rest_ns > rested_ns ? assist.owed_rest_ns - rested_ns : 0;
}

static void revise(void) {
  struct pacer_progress now = progress();
  pacer_cycle_revise(assist.pacer, &now);
  publish_ratio();
  limit_credit();
}

/* Nothing is left but what threads are at: a slice of theirs is short, unless they have lost their processors. */
static bool is_drained(void) {
  for (unsigned spins = 0; atomic_load_acquire(&assist.active) != 0; spins++) {
    if (spins < ACTIVE_SPINS) {
      atomic_pause();
    } else {
      sleep_for(ACTIVE_NS);
    }
  }
  return !mark_rescan_overflow(&collector.tracers[0]) && !work_is_available();
}

void assist_drain(struct cycle *cycle) {
  atomic_store_relaxed(&assist_is_due, true);
  for (;;) {
    uint64_t before_ns = collector.marker[0].cpu_ns;
    bool done = run_epoch(cycle);
    revise();
    if (done && is_drained()) break;
    loan_offer(cycle->self);
    rest(collector.marker[0].cpu_ns - before_ns);
  }
  atomic_store_relaxed(&assist_is_due, false);
}

/* ---- the threads ---- */

/* Draws on the credit; what is left of the debt. */
static int64_t draw(int64_t debt_bytes) {
  int64_t credit = atomic_load_relaxed(&assist.credit_bytes);
  while (credit > 0) {
    int64_t drawn = credit < debt_bytes ? credit : debt_bytes;
    if (atomic_cas_relaxed(&assist.credit_bytes, &credit, credit - drawn)) return debt_bytes - drawn;
  }
  return debt_bytes;
}

/* It may miss one that is about to rest, who has slept it out soon. */
void assist_wake_worker(void) {
  if (LIKELY(atomic_load_relaxed(&assist.resting) == 0)) return;
  atomic_store_relaxed(&assist.resting, 0u);
  wake_one(&assist.resting);
}

static void count_payer(struct midden_tracer *tracer) {
  if (tracer->has_paid) return;
  tracer->has_paid = true;
  atomic_add_relaxed(&assist.payers, 1u);
}

/* Where a thread has lost its processor in the middle of a slice, milliseconds pass that are not the collector's.  To ask for its
 * processor time would take a good part of the slice. */
static uint64_t without_waits(uint64_t passed_ns, size_t scanned_bytes) {
  return min_size(passed_ns, max_size(scanned_bytes, 1024) * SLOW_NS / 1024);
}

static void count_slice(size_t scanned_bytes, uint64_t passed_ns) {
  atomic_add_relaxed(&assist.assist_bytes, scanned_bytes);
  atomic_add_relaxed(&assist.assist_ns, without_waits(passed_ns, scanned_bytes));
  note_pace(scanned_bytes, passed_ns);
  if (scanned_bytes != 0) cycle_count_pause(passed_ns);
}

/* One slice of scanning; what is left of the debt.  Nothing to scan: nothing is owed. */
static int64_t scan_slice(struct mutator *self, int64_t debt_bytes) {
  uint64_t start_ns = os_now_ns();
  struct midden_tracer *tracer = concurrent_tracer(self);
  size_t before = tracer->scanned_bytes;
  count_payer(tracer);
  atomic_add_acq_rel(&assist.active, 1u);
  memcheck_quiet_begin();
  bool done = mark_drain_some(
      tracer, min_size((size_t)debt_bytes, slice_bytes(ASSIST_NS, ASSIST_LEAST_BYTES, ASSIST_MOST_BYTES)));
  memcheck_quiet_end();
  size_t scanned = tracer->scanned_bytes - before;
  concurrent_publish_worked(tracer, scanned != 0);
  atomic_sub_acq_rel(&assist.active, 1u);
  count_slice(scanned, os_now_ns() - start_ns);
  if (done) assist_wake_worker(); /* marking may be about to end */
  return done || debt_bytes <= (int64_t)scanned ? 0 : debt_bytes - (int64_t)scanned;
}

/* In a critical section, for which a handshake waits. */
static int64_t work_off(struct mutator *self, int64_t debt_bytes) {
  mutator_enter(self);
  int64_t left = collector_phase() == COLLECTOR_MARK ? scan_slice(self, debt_bytes) : 0;
  mutator_leave(self);
  return left;
}

void assist_pay(struct mutator *self, size_t bytes) {
  struct midden_tracer *tracer = self->tracer;
  uint64_t owed = (uint64_t)bytes * atomic_load_relaxed(&assist.ratio) >> RATIO_SHIFT;
  int64_t debt = draw(tracer->debt_bytes + (int64_t)owed);
  for (size_t i = 0; i <= bytes / ASSIST_PAY_BYTES && debt >= DEBT_LEAST_BYTES; i++) debt = work_off(self, debt);
  tracer->debt_bytes = debt;
}
