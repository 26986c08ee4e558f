# A model in R, federated by `peerfold node --exec 'Rscript examples/exec/train.R'`: with jsonlite (Debian's r-cran-jsonlite).
#
# Logistic regression by gradient descent: which of R's own iris flowers are of the species virginica. What a program must
# do to be federated is at the end; the two functions read and write safetensors files of 64-bit floats.
library(jsonlite)

write_tensors <- function(path, tensors) {
  header <- list()
  end <- 0
  for (name in names(tensors)) {
    begin <- end
    end <- begin + 8 * length(tensors[[name]])
    header[[name]] <- list(dtype = unbox("F64"), shape = length(tensors[[name]]), data_offsets = c(begin, end))
  }
  text <- charToRaw(toJSON(header))
  out <- file(path, "wb")
  writeBin(c(length(text), 0L), out, size = 4, endian = "little")
  writeBin(text, out)
  for (tensor in tensors) writeBin(as.double(tensor), out, size = 8, endian = "little")
  close(out)
}

read_tensors <- function(path) {
  input <- file(path, "rb")
  length <- readBin(input, "integer", 2, size = 4, endian = "little")[1]
  header <- fromJSON(rawToChar(readBin(input, "raw", length)))
  data <- readBin(input, "raw", file.size(path))
  close(input)
  header[["__metadata__"]] <- NULL
  lapply(header, function(tensor) {
    bytes <- data[(tensor$data_offsets[1] + 1):tensor$data_offsets[2]]
    readBin(bytes, "double", length(bytes) / 8, size = 8, endian = "little")
  })
}

variable <- Sys.getenv
epoch <- as.integer(variable("EXEC_EPOCH"))
features <- cbind(1, scale(as.matrix(iris[, 1:4])))
is_virginica <- as.numeric(iris$Species == "virginica")

if (epoch == 0) {
  # What a new federation begins from.
  write_tensors(variable("EXEC_OUT"), list(coefficients = rep(0, ncol(features))))
  quit(status = 0)
}

part <- as.integer(variable("EXEC_PARTITION"))
parts <- as.integer(variable("EXEC_PARTITIONS"))
mine <- seq_len(nrow(features)) %% parts == part
coefficients <- read_tensors(variable("EXEC_WEIGHTS"))$coefficients
probability <- function(coefficients) as.vector(1 / (1 + exp(-features %*% coefficients)))
# These weights are folded: this is how good the federation is.
folded <- mean((probability(coefficients) > 0.5) == is_virginica)
for (step in 1:50) {
  slope <- t(features[mine, ]) %*% (probability(coefficients) - is_virginica)[mine] / sum(mine)
  coefficients <- coefficients - 0.5 * as.vector(slope)
}
chances <- ifelse(is_virginica == 1, probability(coefficients), 1 - probability(coefficients))
loss <- -mean(log(chances[mine]))
write_tensors(variable("EXEC_OUT"), list(coefficients = coefficients))
report <- list(num_examples = unbox(sum(mine)), metrics = list(loss = unbox(loss), folded_accuracy = unbox(folded)))
write(toJSON(report, digits = 12), variable("EXEC_REPORT"))
