/* What a worker found out, printed as one line: a flat JSON object of texts and numbers.
 *
 * The name of a figure ends in its unit (_s, _ms, _us, _ns, _mib, _per_s) unless it is a count.  "check" is a number that
 * must be the same in every run and under every engine: the proof that they did the same work. */
#ifndef BENCH_WORKER_RESULT_H
#define BENCH_WORKER_RESULT_H

/* Neither the name nor the text is escaped except for quotes and backslashes. */
void result_text(const char *name, const char *text);
void result_number(const char *name, double value);

/* Prints the line to standard output. */
void result_print(void);

#endif
