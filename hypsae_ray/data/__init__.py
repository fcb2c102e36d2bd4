"""The user's files and arguments as typed columns, and as rows that train, validate and test.

From a file to the texts table, in the order of the flow:

    files/        which files a path means; CSV, JSON and Parquet as frames of untyped values
    values        what one value means: missing, a text, a name, a number
    columns       the same for a whole column, with a reason for each value that cannot be used
    levels        names as numbers: categories of covariates, classes of a target
    rows          what a row must be; hashes of texts, and splits by them
    dataset       all rows of the user's files by split
    holdout       holdout rows that are not new; columns by which they may belong together
    near_copies   texts that are nearly copies of others
    words         words and tokens of a text: counted, cut off
    chunks        rows of several texts, chunks of words or pairs, and results of texts by row
    own_vectors   vectors that users bring in place of embeddings

What else users give:

    guess         which column is the text, the target, the group (`hypsae init`)
    mask          which pairs of row and hypothesis to label (`annotate.mask`)
    arguments     lists, Series, arrays and tables given to functions for notebooks
    targets, controls    the target as a task reads it; covariates as columns of a regression
    arrays        types of arrays, codes and samples of rows
"""
