;; Threads that allocate while their stacks grow, with guardians and weak tables of their own and short-lived threads.
;; Prints the same on every collector.
(use-modules (ice-9 threads) (srfi srfi-1))

(define (tree depth) (if (zero? depth) (cons #f #f) (cons (tree (1- depth)) (tree (1- depth)))))
(define (weigh tree) (if (car tree) (+ 1 (weigh (car tree)) (weigh (cdr tree))) 1))

;; Each level keeps a fresh pair, so that the stack that grows has something to lose.
(define (deep n) (if (zero? n) 0 (let ((pair (cons n n))) (+ (deep (1- n)) (- (car pair) (cdr pair)) 1))))

(define (guarded count)
  (let ((guardian (make-guardian)) (weak (make-weak-key-hash-table)))
    (do ((n 0 (1+ n))) ((= n count))
      (let ((key (list n))) (guardian key) (hash-set! weak key n)))
    (let loop ((back 0))
      (let ((object (guardian)))
        (cond ((not object) (<= back count))
              ((eqv? (length object) 1) (loop (1+ back)))
              (else 'broken))))))

(define (work seed)
  (list (weigh (tree (+ 6 (modulo seed 3))))
        (deep (* 1000 (1+ (modulo seed 5))))
        (string-length (string-concatenate (map number->string (iota 300))))
        (guarded 100)))

(define (in-thread thunk) (call-with-new-thread thunk))

(for-each (lambda (result) (write result) (newline))
          (map join-thread
               (map (lambda (i) (in-thread (lambda () (map (lambda (n) (work (+ i n))) (iota 4))))) (iota 6))))

;; A blocked thread, while others come and go.
(define mutex (make-mutex))
(define wake (make-condition-variable))
(define released #f)
(define sleeper
  (in-thread (lambda ()
               (let ((kept (tree 8)))
                 (with-mutex mutex
                   (while (not released) (wait-condition-variable wake mutex)))
                 (weigh kept)))))
(write (fold (lambda (i sum) (+ sum (join-thread (in-thread (lambda () (weigh (tree 4))))))) 0 (iota 60)))
(newline)
(with-mutex mutex (set! released #t) (broadcast-condition-variable wake))
(write (join-thread sleeper))
(newline)
