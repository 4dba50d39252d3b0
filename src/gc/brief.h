/* Brief stops: in dirty-page mode a small heap is marked in a stop altogether, where that is expected to be brief.
 *
 * Marking beside the program is for heaps that take longer to mark than a program may be stopped.  Where all of it takes no
 * longer, a stop is cheaper for everybody: nothing is protected, no page is written to for the second time at the price of a
 * fault, nothing is read twice, and threads that allocate faster than a worker marks need not rest.
 *
 * How long is brief is a limit that is given; or LONGER times what cycles beside the program delayed it by what can be counted,
 * their own stop, assists and rests: faults and caches cost it more.  No more than LONGER times the limit, but where a thread
 * rested for longer in such a cycle: who does little else than rest is as good as stopped.  Never more than LONGEST times the
 * limit.
 *
 * Where a first write to a protected page is dear (written_fault_ns) a program pays for marking beside it with its writes above all,
 * while it is marked and afterwards.  There a stop may be as long as all of them took that the last such cycle brought about: half
 * or less of what it cost, since what the kernel does to protect pages comes on top.  Up to DEAR times the limit.
 *
 * While the world is stopped for all of the marking such delays are forgotten little by little, so that marking beside
 * the program is tried again.
 *
 * Arithmetic on what the caller measured: no clock, no globals.  The collector lock's holder's. */
#ifndef MIDDEN_GC_BRIEF_H
#define MIDDEN_GC_BRIEF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct brief {
  double limit_ns;    /* 0: none is brief */
  double ns_per_byte; /* of one marker in a stop, of late; 0: not known yet */
  double live_bytes;  /* after the last cycle; 0: there was none */
  double survival;    /* above 0, at most 1; by how much of what is allocated what lives grows from cycle to cycle */
  double settle_ns;   /* what a stop for all took beside marking, the last time: finalizers, weak references */
  double delay_ns;    /* of the program by a cycle beside it, of late; at first as long as the limit */
  double held_ns;     /* a single thread in such a cycle, by its stop and by rests, of late */
  double faults_ns;   /* by page faults, from the beginning of such a cycle to the next one; 0 where they are cheap */
};

void brief_init(struct brief *brief, uint64_t limit_ns);

/* So much lives after a cycle, of what was there before it. */
void brief_left(struct brief *brief, size_t live_bytes, size_t before_bytes);

/* A full cycle marked so much, in a stop or beside the program; time of all its markers. */
void brief_marked(struct brief *brief, size_t bytes, uint64_t ns, bool beside);

/* A stop for all of the marking took so much after it. */
void brief_settled(struct brief *brief, uint64_t ns);

/* A cycle beside the program stopped it and kept processors from it for so long, and held the most delayed thread for so long. */
void brief_delayed(struct brief *brief, uint64_t ns, uint64_t held_ns);

/* From the beginning of a cycle beside the program to that of the next cycle of either kind its page faults took so much. */
void brief_faulted(struct brief *brief, uint64_t ns);

/* A heap of so many bytes, dead ones included, is expected to be marked in a brief stop by so many markers. */
size_t brief_most_bytes(const struct brief *brief, unsigned markers);

/* The same where the program does nothing but wait for the cycle: up to AWAITED times the limit.  Marking beside it delays it as well
 * then, and takes longer. */
size_t brief_most_awaited_bytes(const struct brief *brief, unsigned markers);

#endif
