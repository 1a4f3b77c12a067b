-- By which profile a customer was found to be ready, or not to be.

-- A hash. NULL: an earlier version has not written it down.
ALTER TABLE customers ADD COLUMN profile TEXT;
