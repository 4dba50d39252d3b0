;; Work of many kinds that prints the same on every collector.
(defstruct node key left right)

(defun insert (tree key)
  (cond ((null tree) (make-node :key key))
        ((< key (node-key tree)) (setf (node-left tree) (insert (node-left tree) key)) tree)
        (t (setf (node-right tree) (insert (node-right tree) key)) tree)))

(defun total (tree) (if (null tree) 0 (+ (node-key tree) (total (node-left tree)) (total (node-right tree)))))

(let ((tree nil))
  (dotimes (n 1500) (setf tree (insert tree (mod (* n 7919) 10007))))
  (format t "tree ~a~%" (total tree)))

(let ((table (make-hash-table :test #'equal)))
  (dotimes (n 5000) (setf (gethash (format nil "key ~a" n) table) (list n (* n n))))
  (format t "table ~a ~a~%" (hash-table-count table) (gethash "key 4321" table)))

(defun factorial (n) (if (zerop n) 1 (* n (factorial (1- n)))))
(format t "factorial ~a~%" (mod (factorial 500) 1000003))

(defclass shape () ((side :initarg :side :reader side)))
(defmethod area ((shape shape)) (* (side shape) (side shape)))
(format t "classes ~a~%" (loop for n below 500 sum (area (make-instance 'shape :side n))))

(format t "strings ~a~%" (length (with-output-to-string (to) (dotimes (n 3000) (format to "~a," n)))))
(format t "sorted ~a~%" (subseq (sort (loop for n below 3000 collect (mod (* n 7919) 10007)) #'<) 0 5))
(let ((closures (loop for n below 1000 collect (let ((n n)) (lambda (x) (+ x n))))))
  (format t "closures ~a~%" (reduce #'+ (mapcar (lambda (f) (funcall f 1)) closures))))
(handler-case (error "an error")
  (error (condition) (format t "condition ~a~%" condition)))
(let ((keep (make-array 100)))
  (dotimes (n 3000) (setf (aref keep (mod n 100)) (make-list 300 :initial-element n)))
  (format t "garbage ~a~%" (reduce #'+ (map 'list #'car keep))))
(ext:quit 0)
