#!/bin/sh
# Federates a training program that knows nothing of Peerfold: `peerfold node --exec examples/exec/train.sh`.
#
# A program often wants its files where it has them, and says what it did on its output. This script puts the weights
# there, runs the program, and makes of its output what Peerfold wants to know. The program here trains the mean of the
# numbers in $NUMBERS, a file with one on each line: put your own in its place.
set -eu

# One tensor `mean` of one 64-bit float: the length of the header as 8 bytes, the header, and the float as 8 bytes.
write_mean() {
    header='{"mean":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}  '
    printf '\073\0\0\0\0\0\0\0%s' "$header"
    perl -e 'print pack "d<", shift' "$1"
}

read_mean() {
    tail -c 8 "$1" | perl -e 'local $/; printf "%.17g\n", unpack "d<", <>'
}

if [ "$EXEC_EPOCH" = 0 ]; then
    write_mean 0 > "$EXEC_OUT"
    exit
fi

mean=$(read_mean "$EXEC_WEIGHTS")
# An epoch: a step half of the way to the mean of this node's numbers. It prints the new mean, and how many numbers it saw.
said=$(awk -v mean="$mean" '{ sum += $1 } END { printf "%.17g %d\n", mean + (sum / NR - mean) / 2, NR }' "$NUMBERS")
write_mean "${said% *}" > "$EXEC_OUT"
printf '{"num_examples": %d, "metrics": {"mean": %s}}\n' "${said#* }" "${said% *}" > "$EXEC_REPORT"
