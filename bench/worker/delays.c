#define _GNU_SOURCE
#include "worker/delays.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "worker/result.h"
#include "worker/workload.h"

struct delays *delays_new(void) {
  struct delays *delays = calloc(1, sizeof *delays);
  if (delays == NULL) workload_fail("no memory for the delays");
  return delays;
}

/* "CPU QUEUED SLICES" in nanoseconds; 0 where the kernel keeps no such account. */
static uint64_t read_queued_ns(int schedstat) {
  char text[64];
  ssize_t length = schedstat < 0 ? 0 : pread(schedstat, text, sizeof text - 1, 0);
  if (length <= 0) return 0;
  text[length] = '\0';
  char *rest;
  strtoull(text, &rest, 10);
  return strtoull(rest, NULL, 10);
}

/* The time that the host gave to others, of all processors, in ticks; 0 where it does not tell.  Takes some 10 us. */
static uint64_t read_steal_ticks(void) {
  char text[256];
  int stat = open("/proc/stat", O_RDONLY | O_CLOEXEC);
  if (stat < 0) return 0;
  ssize_t length = read(stat, text, sizeof text - 1);
  close(stat);
  text[length > 0 ? length : 0] = '\0';
  unsigned long long ticks = 0; /* user nice system idle iowait irq softirq steal */
  return sscanf(text, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &ticks) == 1 ? ticks : 0;
}

static struct thread_times read_times(int schedstat) {
  struct rusage usage;
  struct timespec cpu;
  getrusage(RUSAGE_THREAD, &usage);
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
  return (struct thread_times){
      .queued_ns = read_queued_ns(schedstat),
      .voluntary = usage.ru_nvcsw,
      .involuntary = usage.ru_nivcsw,
      .faults = usage.ru_minflt,
      .cpu_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec,
      .wall_ns = measure_clock_ns(),
  };
}

void delays_begin(struct delays *delays) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%ld/schedstat", syscall(SYS_gettid));
  delays->schedstat = open(path, O_RDONLY | O_CLOEXEC);
  delays->steal_ticks = read_steal_ticks();
  delays->look = read_times(delays->schedstat);
  delays->at_ns = delays->look.wall_ns;
}

void delays_end(struct delays *delays) {
  if (delays->schedstat >= 0) close(delays->schedstat);
}

void delays_restart(struct delays *delays) {
  delays_end(delays);
  *delays = (struct delays){0};
  delays_begin(delays);
}

void delays_resume(struct delays *delays) {
  if (delays->operations != 0) delays->normal_ns = (delays->at_ns - delays->look.wall_ns) / delays->operations;
  delays->operations = 0;
  delays->look = read_times(delays->schedstat);
  delays->at_ns = delays->look.wall_ns;
}

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t beyond(uint64_t value, uint64_t part) { return value > part ? value - part : 0; }

/* The CPU time of the delay: all since the last look but what the other operations took, which had their processor. */
static uint64_t cpu_of(const struct thread_times *before, const struct thread_times *now, uint64_t delay_ns) {
  uint64_t others_ns = beyond(now->wall_ns - before->wall_ns, delay_ns);
  return smaller(beyond(now->cpu_ns - before->cpu_ns, others_ns), delay_ns);
}

static enum delay_class class_of(const struct thread_times *before, const struct thread_times *now, uint64_t delay_ns) {
  if (now->voluntary != before->voluntary) return DELAY_WAITED;
  if (now->involuntary != before->involuntary) return DELAY_DESCHEDULED;
  return cpu_of(before, now, delay_ns) >= delay_ns / 2 ? DELAY_WORKED : DELAY_DESCHEDULED;
}

/* Shorter ones are no delays. */
static void add_long(struct histogram *histogram, uint64_t *total_ns, uint64_t ns) {
  if (ns <= DELAY_NS) return;
  histogram_add(histogram, ns);
  *total_ns += ns;
}

/* What the collector may have caused of a delay when the machine itself stood still for a part of it. */
static void add_own(struct delays *delays, uint64_t delay_ns, uint64_t caused_ns, uint64_t stolen_ns) {
  uint64_t own_ns = beyond(caused_ns, stolen_ns);
  if (own_ns > delays->longest_own_ns) delays->longest_own_ns = own_ns;
  if (stolen_ns == 0) return;
  delays->stolen++;
  delays->stolen_ns += smaller(stolen_ns, delay_ns);
}

static void add_delay(struct delays *delays, const struct thread_times *now, uint64_t delay_ns, uint64_t stolen_ns) {
  const struct thread_times *before = &delays->look;
  enum delay_class class = class_of(before, now, delay_ns);
  delays->count[class]++;
  delays->total_ns[class] += delay_ns;
  add_long(&delays->delays, &delays->sum_ns, delay_ns);
  uint64_t worked_ns = beyond(cpu_of(before, now, delay_ns), delays->normal_ns);
  uint64_t net_ns = beyond(delay_ns, now->queued_ns - before->queued_ns);
  uint64_t caused_ns = class == DELAY_WAITED ? net_ns : worked_ns;
  add_long(&delays->caused, &delays->caused_ns, caused_ns);
  add_own(delays, delay_ns, caused_ns, stolen_ns);
  add_long(&delays->net, &delays->net_ns, net_ns);
  if (now->faults == before->faults) return;
  delays->faulted++;
  delays->faulted_ns += delay_ns;
}

/* The time that the host took since that was asked last, a tick more where it took any; asks where the operation was
 * long. */
static uint64_t ask_stolen_ns(struct delays *delays) {
  if (measure_clock_ns() - delays->at_ns < DELAY_LONG_NS) return 0;
  uint64_t before_ticks = delays->steal_ticks;
  delays->steal_ticks = read_steal_ticks();
  uint64_t ticks = delays->steal_ticks - before_ticks;
  return ticks == 0 ? 0 : (ticks + 1) * (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
}

uint64_t delays_look(struct delays *delays) {
  uint64_t stolen_ns = ask_stolen_ns(delays);
  struct thread_times now;
  uint64_t end_ns;
  do {
    end_ns = measure_clock_ns();
    now = read_times(delays->schedstat);
  } while (now.wall_ns - end_ns > DELAY_NS);
  uint64_t operation_ns = end_ns - delays->at_ns;
  histogram_add(&delays->all, operation_ns);
  if (operation_ns > DELAY_NS) {
    add_delay(delays, &now, operation_ns, stolen_ns);
  } else {
    delays->normal_ns = (now.wall_ns - delays->look.wall_ns) / delays->operations;
  }
  delays->operations = 0;
  delays->look = now;
  return delays->at_ns = now.wall_ns;
}

void delays_merge(struct delays *delays, const struct delays *from) {
  histogram_merge(&delays->all, &from->all);
  histogram_merge(&delays->delays, &from->delays);
  histogram_merge(&delays->caused, &from->caused);
  histogram_merge(&delays->net, &from->net);
  for (int i = 0; i < DELAY_CLASSES; i++) {
    delays->count[i] += from->count[i];
    delays->total_ns[i] += from->total_ns[i];
  }
  delays->sum_ns += from->sum_ns;
  delays->caused_ns += from->caused_ns;
  delays->net_ns += from->net_ns;
  delays->faulted += from->faulted;
  delays->faulted_ns += from->faulted_ns;
  delays->stolen += from->stolen;
  delays->stolen_ns += from->stolen_ns;
  if (from->longest_own_ns > delays->longest_own_ns) delays->longest_own_ns = from->longest_own_ns;
}

/* PREFIX_count, PREFIX_p50_us and so on. */
static void report_quantiles(const struct histogram *histogram, const char *prefix, uint64_t total_ns) {
  static const struct {
    const char *name;
    double fraction;
  } quantiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}};
  char name[32];
  snprintf(name, sizeof name, "%s_count", prefix);
  result_number(name, (double)histogram->total);
  for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
    snprintf(name, sizeof name, "%s_%s_us", prefix, quantiles[i].name);
    result_number(name, histogram_quantile_us(histogram, quantiles[i].fraction));
  }
  snprintf(name, sizeof name, "%s_max_us", prefix);
  result_number(name, (double)histogram->longest_ns / 1e3);
  snprintf(name, sizeof name, "%s_total_ms", prefix);
  result_number(name, (double)total_ns / 1e6);
}

static void report_classes(const struct delays *delays) {
  static const char *const names[DELAY_CLASSES] = {"waited", "worked", "descheduled"};
  char name[32];
  for (int i = 0; i < DELAY_CLASSES; i++) {
    snprintf(name, sizeof name, "%s_count", names[i]);
    result_number(name, (double)delays->count[i]);
    snprintf(name, sizeof name, "%s_ms", names[i]);
    result_number(name, (double)delays->total_ns[i] / 1e6);
  }
  result_number("faulted_count", (double)delays->faulted);
  result_number("faulted_ms", (double)delays->faulted_ns / 1e6);
  result_number("stolen_count", (double)delays->stolen);
  result_number("stolen_ms", (double)delays->stolen_ns / 1e6);
  result_number("own_max_us", (double)delays->longest_own_ns / 1e3);
}

void delays_report(const struct delays *delays) {
  result_number("operation_p50_us", histogram_quantile_us(&delays->all, 0.5));
  result_number("operation_p999_us", histogram_quantile_us(&delays->all, 0.999));
  report_quantiles(&delays->delays, "delay", delays->sum_ns);
  report_quantiles(&delays->caused, "caused", delays->caused_ns);
  report_quantiles(&delays->net, "net", delays->net_ns);
  report_classes(delays);
  histogram_report_tails(&delays->delays, "delays");
  histogram_report_tails(&delays->caused, "caused");
}
